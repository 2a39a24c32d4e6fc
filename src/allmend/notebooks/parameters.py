"""Form parameters: Colab's `#@param`, papermill's `parameters` tag, literal `interact` calls of ipywidgets.

Colab's marks are documented in its forms guide; its renderer is closed, so behaviour was taken from notebooks.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from allmend.nouns.notebook import Cell
from allmend.nouns.plan import FormParameter

_PARAM = re.compile(r"#\s*@param(?P<rest>.*)$")
_TITLE = re.compile(r"^\s*#\s*@title(?P<text>.*)$")
_MARKDOWN = re.compile(r"^\s*#\s*@markdown(?P<text>.*)$")
_ASSIGN = re.compile(
    r"^\s*(?P<name>[A-Za-z_][\w.]*(?:\[[^\]]+\])?)\s*(?::\s*(?P<hint>[^=]+?))?\s*=(?!=)\s*(?P<value>.*)$"
)
_OPTIONS = re.compile(r"\{.*\}\s*$")
_BARE_KEY = re.compile(r"([{,]\s*)([A-Za-z_][\w-]*)\s*:")
_TYPES = {"string": "string", "str": "string", "boolean": "boolean", "bool": "boolean", "integer": "integer",
          "int": "integer", "number": "number", "float": "number", "raw": "raw", "date": "date"}  # fmt: skip
_MAXIMUM = 2000


def parameters(cells: list[Cell]) -> list[FormParameter]:
    """Every form parameter of `cells`, in order; the first of a name wins its place, none is dropped."""
    found: list[FormParameter] = []
    section: str | None = None
    for index, cell in enumerate(cells):
        if cell.type == "markdown":
            heading = re.search(r"^#{1,6}\s+(.+?)\s*#*$", cell.source, re.MULTILINE)
            if heading and len(cell.source) < 5000:
                section = _plain(heading[1])
            continue
        if cell.type != "code":
            continue
        if "@param" in cell.source:
            found.extend(_colab(index, cell.source, section))
        elif "parameters" in cell.tags:
            found.extend(_papermill(index, cell.source, section))
        if "interact" in cell.source:
            found.extend(_interact(index, cell.source, section))
        if len(found) > _MAXIMUM:
            break
    return found[:_MAXIMUM]


def _plain(text: str) -> str:
    return re.sub(r"\s*\{.*\}\s*$", "", re.sub(r"<[^>]{0,200}>", "", text)).strip()[:200]


def _colab(index: int, source: str, section: str | None) -> Iterator[FormParameter]:
    said: list[str] = []
    for number, line in enumerate(source.split("\n"), start=1):
        title = _TITLE.match(line)
        if title:
            section = _plain(title["text"]) or section
            continue
        words = _MARKDOWN.match(line)
        if words:
            text = _plain(words["text"])
            if re.match(r"#{1,6}\s", text):
                section, said = text.lstrip("# ").strip(), []
            elif text and set(text) - set("-=* "):
                said.append(text)
            continue
        if "@param" not in line:
            continue
        yield from _line(line, index, number, section, " ".join(said)[:500] or None)
        said = []


def _line(line: str, cell: int, number: int, section: str | None, description: str | None) -> Iterator[FormParameter]:
    """The parameters of one line; several assignments may share it, separated by `;`."""
    mark = _PARAM.search(line)
    if mark is None:
        return
    code = line[: mark.start()].rstrip()
    pieces = _statements(code)
    for place, piece in enumerate(pieces):
        match = _ASSIGN.match(piece)
        if not match:
            continue
        rest = mark["rest"] if place == len(pieces) - 1 else ""
        yield _parameter(match["name"], match["value"], rest, cell, number, section, description)


def _statements(code: str) -> list[str]:
    """`code` cut at top-level semicolons."""
    pieces, quote, start = [], "", 0
    for place, char in enumerate(code):
        if quote:
            quote = "" if char == quote and code[place - 1] != "\\" else quote
        elif char in "\"'":
            quote = char
        elif char == ";":
            pieces.append(code[start:place])
            start = place + 1
    pieces.append(code[start:])
    return [piece for piece in pieces if piece.strip()]


def _parameter(
    name: str, value: str, rest: str, cell: int, line: int, section: str | None, description: str | None
) -> FormParameter:
    default = _literal(value)
    kind, choices, options = _mark(rest)
    if isinstance(options.get("type"), str):
        word = options["type"].lower()
        kind = "slider" if word == "slider" else _TYPES.get(word, kind or word)
    if kind is None:
        kind = _type_of(default) if not choices else "dropdown"
    elif choices is not None and kind != "slider":
        kind = f"dropdown-{kind}" if kind == "raw" else "dropdown"
    return FormParameter(
        name=name,
        type=kind,
        default=default,
        choices=choices,
        allow_input=options.get("allow-input") is True,
        minimum=_number(options.get("min")),
        maximum=_number(options.get("max")),
        step=_number(options.get("step")),
        section=section,
        description=description or (str(options["placeholder"])[:200] if options.get("placeholder") else None),
        cell=cell,
        line=line,
    )


def _mark(rest: str) -> tuple[str | None, list[Any] | None, dict[str, Any]]:
    """The type word, the choices and the options after `#@param`."""
    text = rest.strip()
    options: dict[str, Any] = {}
    choices: list[Any] | None = None
    if text.startswith("["):
        end = _bracket(text)
        value = _loose(text[:end])
        choices = value if isinstance(value, list) else None
        text = text[end:].strip()
    braces = _OPTIONS.search(text)
    if braces:
        loose = _loose(braces[0].strip())
        options = loose if isinstance(loose, dict) else {}
        text = text[: braces.start()].strip()
    word = text.split()[0].strip(",:").lower() if text.split() else ""
    return _TYPES.get(word), choices, options


def choices_of(line: str) -> list[Any] | None:
    """What the dropdown of a form line offers, as the values that the code would get; None for other fields."""
    mark = _PARAM.search(line)
    if mark is None:
        return None
    kind, choices, options = _mark(mark["rest"])
    if choices and (kind == "raw" or str(options.get("type", "")).lower() == "raw"):
        return [_literal(choice) if isinstance(choice, str) else choice for choice in choices]
    return choices


def _bracket(text: str) -> int:
    depth, quote = 0, ""
    for place, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
            if depth == 0:
                return place + 1
    return len(text)


def _loose(text: str) -> Any:
    """JSON, JSON with bare keys, or a Python literal; None when it is none of them."""
    for read in (json.loads, lambda t: json.loads(_BARE_KEY.sub(r'\1"\2":', t)), ast.literal_eval):
        try:
            return _jsonable(read(text[:20_000]))
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return None


def _literal(text: str) -> Any:
    """The value of a Python literal, or its source text when it is an expression."""
    text = text.strip()
    try:
        return _jsonable(ast.literal_eval(text[:20_000]))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return text[:500]


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _type_of(value: Any) -> str:
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string")):
        if isinstance(value, kind):
            return name
    return "raw"


_HINT = re.compile(r"#\s*(?P<type>int|float|str|bool|list|dict)\b\s*(?P<text>.*)$")


def _papermill(index: int, source: str, section: str | None) -> Iterator[FormParameter]:
    """Assignments of a cell tagged `parameters`; a comment `# int how many` gives type and description."""
    for number, line in enumerate(source.split("\n"), start=1):
        match = _ASSIGN.match(line)
        if not match or line[:1].isspace():
            continue
        value, _, comment = match["value"].partition("  #")
        hint = _HINT.search("#" + comment) if comment else None
        default = _literal(value.split(" #")[0])
        kind = (match["hint"] or (hint["type"] if hint else "")).strip()
        yield FormParameter(
            name=match["name"],
            type=_TYPES.get(kind, kind or _type_of(default)),
            default=default,
            section=section,
            description=(hint["text"].strip() if hint else comment.strip())[:200] or None,
            cell=index,
            line=number,
        )


def _interact(index: int, source: str, section: str | None) -> Iterator[FormParameter]:
    """`interact(f, x=(0, 10, 2), y=["a", "b"])` with literal abbreviations."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or len(node.keywords) > 50:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in ("interact", "interact_manual", "interactive"):
            continue
        for keyword in node.keywords:
            try:
                value = ast.literal_eval(keyword.value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue
            if keyword.arg:
                yield _abbreviated(keyword.arg, value, index, node.lineno, section)


def _abbreviated(name: str, value: Any, cell: int, line: int, section: str | None) -> FormParameter:
    """ipywidgets' abbreviations: a tuple of numbers is a slider, a list or dict a dropdown."""
    if isinstance(value, tuple) and 2 <= len(value) <= 3 and all(isinstance(v, int | float) for v in value):
        low, high = value[0], value[1]
        whole = all(isinstance(v, int) for v in value)
        middle = (low + high) // 2 if whole else (low + high) / 2
        return FormParameter(
            name=name, type="slider", default=middle, minimum=float(low), maximum=float(high),
            step=float(value[2]) if len(value) == 3 else None, section=section, cell=cell, line=line,
        )  # fmt: skip
    if isinstance(value, list | dict):
        choices = _jsonable(list(value.values()) if isinstance(value, dict) else value)
        return FormParameter(
            name=name, type="dropdown", default=choices[0] if choices else None, choices=choices, section=section,
            cell=cell, line=line,
        )  # fmt: skip
    return FormParameter(
        name=name, type=_type_of(value), default=_jsonable(value), section=section, cell=cell, line=line
    )
