"""Calls with no effect whose result can be worked out: string methods, `os.path`, `Path`, `str`, `range`, `json`…"""

from __future__ import annotations

import base64
import os.path
import posixpath
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from allmend.planning.evaluation.attributes import attribute
from allmend.planning.evaluation.values import (
    MISSING,
    Either,
    Made,
    PathText,
    Symbol,
    Unknown,
    Value,
    combine,
    has_hole,
    iterate,
    options,
)

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.evaluation.python import Python


def pure_call(python: Python, call: Call) -> Value:
    """The result of `call` when it has no effect and can be worked out, else MISSING."""
    path = call.path
    lifted = path.startswith(("str.", "path.")) or path == "dict.get"
    if lifted and path != "str.format" and any(isinstance(value, Either) for value in call.args):
        return _each(python, call)
    if isinstance(call.receiver, str) and path.startswith(("str.", "path.")):
        return _text_method(python, call, path.partition(".")[2])
    if isinstance(call.receiver, list) and path.startswith("list."):
        return _list_method(call, path[5:])
    if isinstance(call.receiver, dict) and path.startswith("dict."):
        return _dict_method(call, path[5:])
    function = _FUNCTIONS.get(path)
    if function is None:
        return MISSING
    return function(python, call)


def _each(python: Python, call: Call) -> Value:
    """The result for each combination of the arguments' alternatives."""
    found = combine(call.args, lambda row: pure_call(python, call.given(row)))
    return MISSING if any(option is MISSING for _, option in options(found)) else found


def _texts(python: Python, call: Call, count: int | None = None) -> list[Value]:
    nodes = call.node.args
    return [
        python.settle(value, nodes[min(n, len(nodes) - 1)]) if nodes else value
        for n, value in enumerate(call.args[:count])
    ]


def _text_method(python: Python, call: Call, name: str) -> Value:
    text = call.receiver
    if isinstance(text, PathText):
        found = _path_method(python, call, name, text)
        if found is not MISSING:
            return found
    if name == "format":
        return _format(python, text, call)
    if name == "join" and call.args and isinstance(call.args[0], list | tuple):
        return text.join(python.holes.text(item) for item in call.args[0][:2000])[:200_000]
    if name in ("strip", "lstrip", "rstrip", "lower", "upper", "replace", "split", "rsplit", "title", "capitalize", "encode",
                "startswith", "endswith", "removeprefix", "removesuffix", "splitlines", "partition", "rpartition", "decode",
                "zfill", "format_map", "casefold"):  # fmt: skip
        if name in ("encode", "decode"):
            return text
        args = [python.holes.text(a) if not isinstance(a, int | type(None)) else a for a in _texts(python, call)]
        if name in ("startswith", "endswith") and has_hole(text):
            return python.unknown(call.node, "it is a condition")
        if name == "zfill" and (not args or not isinstance(args[0], int) or args[0] > 1000):
            return text
        try:
            result = getattr(text, name)(*args)
        except (TypeError, ValueError, AttributeError, OverflowError, MemoryError):
            return python.unknown(call.node, "it is worked out while the notebook runs")
        return (
            result[:200_000] if isinstance(result, str) else list(result)[:5000] if isinstance(result, list) else result
        )
    return MISSING


def _format(python: Python, text: str, call: Call) -> Value:
    positional = _texts(python, call)
    nodes = {k.arg: k.value for k in call.node.keywords}
    named = {k: python.settle(v, nodes.get(k, call.node)) for k, v in call.keywords.items()}
    names = list(named)

    def make(row: list[Value]) -> Value:
        shown = [v if isinstance(v, int | float | dict | list) else python.holes.text(v) for v in row]
        try:
            if len(text) > 50_000:
                raise ValueError
            return text.format(*shown[: len(positional)], **dict(zip(names, shown[len(positional) :], strict=True)))
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError):
            return python.unknown(call.node, "its format cannot be filled in")

    return combine([*positional, *named.values()], make)


def _path_method(python: Python, call: Call, name: str, text: str) -> Value:
    if name == "joinpath":
        return PathText(posixpath.join(text, *(python.holes.text(a) for a in _texts(python, call))))
    if name in ("absolute", "resolve", "expanduser", "as_posix", "__str__"):
        return PathText(text)
    if name in ("with_suffix", "with_name") and call.args and isinstance(call.args[0], str):
        base = posixpath.splitext(text)[0] if name == "with_suffix" else posixpath.dirname(text) + "/"
        return PathText(base + call.args[0])
    return MISSING


def _list_method(call: Call, name: str) -> Value:
    items = call.receiver
    if name == "append" and call.args and len(items) < 5000:
        items.append(call.args[0])
    elif name == "extend" and call.args and isinstance(call.args[0], list | tuple) and len(items) < 5000:
        items.extend(call.args[0])
    elif name == "insert" and len(call.args) > 1 and isinstance(call.args[0], int):
        items.insert(call.args[0], call.args[1])
    elif name == "copy":
        return list(items)
    elif name not in ("append", "extend", "insert", "sort", "reverse"):
        return MISSING
    return None


def _dict_method(call: Call, name: str) -> Value:
    items = call.receiver
    if name == "items":
        return [(key, value) for key, value in items.items()]
    if name == "keys":
        return list(items)
    if name == "values":
        return list(items.values())
    if name == "get" and call.args and isinstance(call.args[0], str | int | float | bool):
        return items.get(call.args[0], call.args[1] if len(call.args) > 1 else None)
    if name == "update":
        if call.args and isinstance(call.args[0], dict):
            items.update(call.args[0])
        items.update(call.keywords)
        return None
    if name == "copy":
        return dict(items)
    return MISSING


# -- functions of the standard library ------------------------------------------------------------------------------


def _lifted(function: Callable[[str], Value]) -> Callable[[Python, Call], Value]:
    def call_it(python: Python, call: Call) -> Value:
        if not call.args:
            return MISSING
        return combine(_texts(python, call, 1), lambda row: function(python.holes.text(row[0])))

    return call_it


def _join(python: Python, call: Call) -> Value:
    return combine(
        _texts(python, call), lambda row: posixpath.join(*(python.holes.text(v) for v in row)) if row else ""
    )


def _urljoin(python: Python, call: Call) -> Value:
    """`urljoin(base, path)`; only a base that is known decides how they join."""
    from urllib.parse import urljoin

    if len(call.args) < 2:
        return MISSING

    def join(row: list[Value]) -> Value:
        base, path = (python.holes.text(v) for v in row)
        try:
            return urljoin(base, path) if not has_hole(base) else MISSING
        except ValueError:
            return python.unknown(call.node, "it is no address")

    return combine(_texts(python, call, 2), join)


def _path(python: Python, call: Call) -> Value:
    if not call.args:
        return PathText(".")
    return combine(_texts(python, call), lambda row: PathText(posixpath.join(*(python.holes.text(v) for v in row))))


def _str(python: Python, call: Call) -> Value:
    if not call.args:
        return ""
    value = _texts(python, call, 1)[0]
    return combine(
        [value], lambda row: row[0] if isinstance(row[0], Unknown | Made) else str(python.holes.text(row[0]))
    )


def _int(python: Python, call: Call) -> Value:
    value = call.args[0] if call.args else 0
    if isinstance(value, int | float | str) and not (isinstance(value, str) and (has_hole(value) or len(value) > 30)):
        try:
            return int(value)
        except (ValueError, OverflowError):
            pass
    return python.unknown(call.node, "it is worked out while the notebook runs")


def _range(python: Python, call: Call) -> Value:
    if call.args and all(isinstance(a, int) and abs(a) < 10**6 for a in call.args) and 0 not in call.args[2:]:
        return range(*call.args[:3])
    return python.unknown(call.node, "the range is not known")


def _zip(python: Python, call: Call) -> Value:
    lists = [iterate(value) for value in call.args]
    if lists and all(items is not None for items in lists):
        return [tuple(row) for row in zip(*(items or [] for items in lists), strict=False)]
    return python.unknown(call.node, "it loops over values that are not known")


def _enumerate(python: Python, call: Call) -> Value:
    items = iterate(call.args[0]) if call.args else None
    return list(enumerate(items)) if items is not None else python.unknown(call.node, "it loops over unknown values")


def _same(python: Python, call: Call) -> Value:
    if not call.args:
        return MISSING
    value = call.args[0]
    return list(value) if isinstance(value, list | tuple) else list(value) if isinstance(value, dict) else value


def _dict(python: Python, call: Call) -> Value:
    if call.args and isinstance(call.args[0], list) and all(isinstance(p, tuple) and len(p) == 2 for p in call.args[0]):
        return {k: v for k, v in call.args[0] if isinstance(k, str | int)}
    start = call.args[0] if call.args and isinstance(call.args[0], dict) else {}
    return {**start, **call.keywords}


def _getattr(python: Python, call: Call) -> Value:
    if len(call.args) > 1 and isinstance(call.args[1], str) and not has_hole(call.args[1]):
        return attribute(python, call.args[0], call.args[1])
    return python.unknown(call.node, "the attribute is chosen while the notebook runs")


def _import_module(python: Python, call: Call) -> Value:
    name, _ = call.get(0, "name")
    if isinstance(name, str) and not has_hole(name):
        python.session.observer.on_import(name)
        top = call.path.endswith("__import__") and not call.keywords.get("fromlist")
        return Symbol(name.partition(".")[0] if top else name)
    return python.unknown(call.node, "the module is chosen while the notebook runs")


def _split(python: Python, call: Call) -> Value:
    text = call.args[0] if call.args else None
    if isinstance(text, str):
        try:
            return shlex.split(text)[:2000]
        except ValueError:
            return text.split()[:2000]
    return python.unknown(call.node, "it is worked out while the notebook runs")


def _cwd(python: Python, call: Call) -> Value:
    return PathText(python.session.world.cwd or python.session.start)


def _decode(python: Python, call: Call) -> Value:
    """Literal text in base64; remembered, because running it is worth a finding."""
    text = call.args[0] if call.args else None
    if isinstance(text, str) and not has_hole(text) and len(text) < 20_000:
        try:
            decoded = base64.b64decode(text.encode("ascii", "ignore")).decode("utf-8", "replace").replace("\0", "")
        except ValueError:
            return MISSING
        python.session.facts.setdefault("decoded", set()).add(decoded)
        return decoded
    return MISSING


def _len(python: Python, call: Call) -> Value:
    known = call.args and isinstance(call.args[0], list | tuple | dict)
    return len(call.args[0]) if known else python.unknown(call.node, "a length")


def _cast(python: Python, call: Call) -> Value:
    return call.args[1] if len(call.args) > 1 else MISSING


def _none(python: Python, call: Call) -> Value:
    return None


def _splitext(text: str) -> Value:
    return posixpath.splitext(text)


_FUNCTIONS: dict[str, Callable[[Python, Call], Value]] = {
    "os.path.join": _join, "posixpath.join": _join, "pathlib.Path": _path, "pathlib.PurePath": _path,
    "pathlib.PosixPath": _path, "os.path.basename": _lifted(posixpath.basename),
    "os.path.dirname": _lifted(posixpath.dirname), "os.path.abspath": _lifted(lambda p: p),
    "os.path.realpath": _lifted(lambda p: p), "os.path.expanduser": _lifted(lambda p: p),
    "os.path.normpath": _lifted(os.path.normpath), "os.path.splitext": _lifted(_splitext),
    "os.getcwd": _cwd,
    "base64.b64decode": _decode, "pathlib.Path.cwd": _cwd, "os.path.relpath": _lifted(lambda p: p), "os.fspath": _lifted(lambda p: p), "shlex.quote": _lifted(lambda p: p), "shlex.split": _split,
    "builtins.str": _str, "builtins.int": _int, "builtins.range": _range, "builtins.xrange": _range, "builtins.zip": _zip,
    "builtins.enumerate": _enumerate, "builtins.list": _same, "builtins.tuple": _same, "builtins.sorted": _same,
    "builtins.reversed": _same, "builtins.iter": _same, "builtins.dict": _dict, "builtins.getattr": _getattr,
    "importlib.import_module": _import_module, "builtins.__import__": _import_module, "tqdm.tqdm": _same,
    "tqdm.auto.tqdm": _same, "tqdm.notebook.tqdm": _same, "builtins.print": _none, "builtins.len": _len,
    "textwrap.dedent": _lifted(lambda p: p), "urllib.parse.quote": _lifted(lambda p: p), "urllib.parse.quote_plus": _lifted(lambda p: p),
    "urllib.parse.urljoin": _urljoin, "urlparse.urljoin": _urljoin, "urllib.parse.unquote": _lifted(lambda p: p), "typing.cast": _cast,
}  # fmt: skip
