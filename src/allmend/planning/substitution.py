"""IPython's own substitution in `!` lines and magics: `{expression}` and `$name`, before any shell sees them."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from allmend.planning.evaluation.attributes import attribute
from allmend.planning.evaluation.values import DERIVED, MISSING, Either, Unknown, Value, has_hole, options

if TYPE_CHECKING:
    from allmend.planning.evaluation.python import Python

_PIECE = re.compile(
    r"\$\$|\$(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)|\{\{|\}\}|(?P<dollar>\$?)\{(?P<expr>[^{}\n]{1,400})\}"
)
_SIMPLE = re.compile(r"[A-Za-z_][\w.]*(?:\[[^\]]*\])*(?:\(.*\))?$")
_FORMAT = re.compile(r"^(?P<expr>.*?)(?:!(?P<conversion>[rsa]))?(?::(?P<spec>[^\]\[()'\"{}]*))?$", re.DOTALL)


def substitute(python: Python, text: str) -> list[str]:
    """`text` with IPython's variables filled in, once for each way that they can be filled in."""
    if "$" not in text and "{" not in text:
        return [text]
    values: list[Value] = []
    pieces: list[str | int] = []
    at = 0
    for match in _PIECE.finditer(text):
        pieces.append(text[at : match.start()])
        at = match.end()
        if match[0] in ("$$", "{{", "}}"):
            pieces.append({"$$": "$", "{{": "{", "}}": "}"}[match[0]] if match[0] == "$$" else match[0])
            continue
        found = _value(python, match)
        if found is MISSING:
            pieces.append(match[0])
        else:
            pieces.append(len(values))
            values.append(found)
    pieces.append(text[at:])
    if not values:
        return [text]
    filled: list[str] = []
    for row in _rows(values):
        filled.append("".join(p if isinstance(p, str) else _marked(python, row[p]) for p in pieces))
    return _told_apart(list(dict.fromkeys(filled)))


def _told_apart(texts: list[str]) -> list[str]:
    """Every text that is wholly known, and one of those that are not: their variants say nothing more."""
    known = [text for text in texts if not has_hole(text)]
    holed = [text for text in texts if has_hole(text)]
    return [*known, *holed[:1]]


def _rows(values: list[Value]) -> list[list[Value]]:
    from allmend.planning.evaluation.values import agree

    rows: list[tuple[tuple[tuple[int, int], ...], list[Value]]] = [((), [])]
    for value in values:
        grown = []
        for arms, row in rows:
            for more, option in options(value):
                both = agree(arms, more)
                if both is not None:
                    grown.append((both, [*row, option]))
        rows = grown[:24] or rows
    return [row for _, row in rows if len(row) == len(values)] or [[options(v)[0][1] for v in values]]


def _marked(python: Python, value: Value) -> str:
    """A value's text with every word marked as worked out rather than written."""
    text = python.holes.text(value)
    return re.sub(r"(\S+)", DERIVED + r"\1", text) if text else DERIVED


def _value(python: Python, match: re.Match[str]) -> Value:
    if match["name"]:
        name = match["name"]
        first, *rest = name.split(".")
        value = python.look_up(first)
        if value is MISSING or callable(value):
            return MISSING
        for part in rest:
            value = attribute(python, value, part)
        return _settled(value, name)
    source = match["expr"].strip()
    expression = _parsed(source)
    if expression is None:
        shape = _FORMAT.match(source)
        expression = _parsed(shape["expr"]) if shape else None
        if expression is None:
            return MISSING
    if isinstance(expression, ast.Tuple | ast.Set | ast.Constant):
        return MISSING
    if isinstance(expression, ast.Name) and python.look_up(expression.id) is MISSING:
        if match["dollar"]:
            return MISSING
        if expression.id in ("print", "exit"):
            return MISSING
        return Unknown(source, "the name is not set in the notebook")
    if (
        isinstance(expression, ast.BinOp)
        and not _SIMPLE.match(source)
        and _first(expression)
        and python.look_up(_first(expression)) is MISSING
    ):
        return MISSING
    place, python.place = python.place, type(python.place)(python.place.cell, python.place.above, (source,))
    try:
        value = python.eval(expression)
    finally:
        python.place = place
    return _settled(value, source)


def _settled(value: Value, source: str) -> Value:
    if isinstance(value, Either):
        return Either(tuple((arms, _settled(option, source)) for arms, option in value.options))
    if isinstance(value, str | int | float | bool | Unknown) or value is None:
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value) and len(value) < 100:
        # A list is shown with brackets and commas; its items are still what the command gets wrong or right.
        return str(list(value))
    return Unknown(source, getattr(value, "reason", "it is made while the notebook runs"))


def _parsed(source: str) -> ast.expr | None:
    try:
        return ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _first(node: ast.expr) -> str:
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            return child.id
    return ""
