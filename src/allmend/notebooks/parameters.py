"""Form parameters: Colab's `#@param`, papermill's `parameters` tag; widgets have a file of their own.

Colab's marks are documented in its forms guide; its renderer is closed, so behaviour was taken from notebooks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from allmend.notebooks.literals import literal, loose, number, type_of
from allmend.notebooks.widgets import interact
from allmend.nouns.notebook import Cell
from allmend.nouns.plan import FormParameter

_PARAM = re.compile(r"#\s*@param(?P<rest>.*)$")

_TITLE = re.compile(r"^\s*#\s*@title(?P<text>.*)$")

_MARKDOWN = re.compile(r"^\s*#\s*@markdown(?P<text>.*)$")

_ASSIGN = re.compile(
    r"^\s*(?P<name>[A-Za-z_][\w.]*(?:\[[^\]]+\])?)\s*(?::\s*(?P<hint>[^=]+?))?\s*=(?!=)\s*(?P<value>.*)$"
)

_OPTIONS = re.compile(r"\{.*\}\s*$")

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
            found.extend(interact(index, cell.source, section))
        if len(found) > _MAXIMUM:
            break
    return found[:_MAXIMUM]


def _plain(text: str) -> str:
    return re.sub(r"\s*\{.*\}\s*$", "", re.sub(r"<[^>]{0,200}>", "", text)).strip()[:200]


def _colab(index: int, source: str, section: str | None) -> Iterator[FormParameter]:
    said: list[str] = []
    for at, line in enumerate(source.split("\n"), start=1):
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
        yield from _line(line, index, at, section, " ".join(said)[:500] or None)
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
    default = literal(value)
    kind, choices, options = _mark(rest)
    if isinstance(options.get("type"), str):
        word = options["type"].lower()
        kind = "slider" if word == "slider" else _TYPES.get(word, kind or word)
    if kind is None:
        kind = type_of(default) if not choices else "dropdown"
    elif choices is not None and kind != "slider":
        kind = f"dropdown-{kind}" if kind == "raw" else "dropdown"
    return FormParameter(
        name=name,
        type=kind,
        default=default,
        choices=choices,
        allow_input=options.get("allow-input") is True,
        template=options.get("isTemplate") is True,
        minimum=number(options.get("min")),
        maximum=number(options.get("max")),
        step=number(options.get("step")),
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
        value = loose(text[:end])
        choices = value if isinstance(value, list) else None
        text = text[end:].strip()
    braces = _OPTIONS.search(text)
    if braces:
        found = loose(braces[0].strip())
        options = found if isinstance(found, dict) else {}
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
        return [literal(choice) if isinstance(choice, str) else choice for choice in choices]
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


_HINT = re.compile(r"#\s*(?:type:\s*)?(?P<type>int|float|str|bool|list|dict)\b\s*(?P<text>.*)$")


def _papermill(index: int, source: str, section: str | None) -> Iterator[FormParameter]:
    """Assignments of a cell tagged `parameters`; a comment `# int how many` gives type and description."""
    for at, line in enumerate(source.split("\n"), start=1):
        match = _ASSIGN.match(line)
        if not match or line[:1].isspace():
            continue
        value, comment = _commented(match["value"])
        hint = _HINT.search("#" + comment) if comment else None
        default = literal(value)
        kind = (match["hint"] or (hint["type"] if hint else "")).strip()
        yield FormParameter(
            name=match["name"],
            type=_TYPES.get(kind, kind or type_of(default)),
            default=default,
            section=section,
            description=(hint["text"].strip() if hint else comment.strip())[:200] or None,
            cell=index,
            line=at,
        )


def _commented(text: str) -> tuple[str, str]:
    """A line's code and its comment; a `#` inside a string is no comment."""
    quote = ""
    for place, char in enumerate(text):
        if quote:
            quote = "" if char == quote and text[place - 1] != "\\" else quote
        elif char in "\"'":
            quote = char
        elif char == "#":
            return text[:place].strip(), text[place + 1 :]
    return text.strip(), ""
