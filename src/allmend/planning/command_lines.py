"""What a script reads off its own command line: argparse with its defaults, `sys.argv`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allmend.planning.evaluation.values import DERIVED, MISSING, Made, Value

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session

_PARSER = "ArgumentParser()"
_KEPT = "<options>"


def on_call(session: Session, call: Call) -> Value:
    """Answer calls on a parser of command lines; MISSING for all others."""
    last = call.path.rpartition(".")[2]
    if last not in ("add_argument", "parse_args", "parse_known_args", "add_argument_group") or _PARSER not in call.path:
        return MISSING
    parser = _parser(call)
    if parser is None:
        return MISSING
    if last == "add_argument":
        _option(parser, call)
        return None
    if last == "add_argument_group":
        return parser
    found = Made(
        "argparse.Namespace()", [], {}, None, _values(session, parser, call), "args", "it is given on a command line"
    )
    return (found, []) if last == "parse_known_args" else found


def _parser(call: Call) -> Made | None:
    value = call.receiver
    return value if isinstance(value, Made) and value.path.endswith(_PARSER) else None


def _option(parser: Made, call: Call) -> None:
    names = [name for name in call.args if isinstance(name, str)]
    if not names:
        return
    long = next((name for name in names if name.startswith("--")), names[0])
    given = call.keywords.get("dest")
    dest = given if isinstance(given, str) else long.lstrip("-").replace("-", "_")
    kept = parser.attributes.setdefault(_KEPT, {})
    default = call.keywords.get("default")
    if call.keywords.get("action") == "store_true" and default is None:
        default = False
    if len(kept) < 500:
        kept[dest] = (names, default)


def _values(session: Session, parser: Made, call: Call) -> dict[str, Value]:
    """Each option at what the command line gives it, else at its default."""
    given = call.args[0] if call.args else call.keywords.get("args")
    words = [word for word in given if isinstance(word, str)] if isinstance(given, list | tuple) else session.argv
    values: dict[str, Value] = {}
    loose = [
        word
        for at, word in enumerate(words)
        if not word.startswith("-") and not (at and words[at - 1].startswith("--"))
    ]
    for dest, (names, default) in parser.attributes.get(_KEPT, {}).items():
        value = default
        if not names[0].startswith("-"):
            value = loose.pop(0) if loose else default
        for at, word in enumerate(words):
            head, sign, tail = word.partition("=")
            if head in names and word.startswith("-"):
                value = tail if sign else words[at + 1] if at + 1 < len(words) and default is not False else True
        if value is not None:
            values[dest] = DERIVED + value if isinstance(value, str) and DERIVED not in value else value
    return values
