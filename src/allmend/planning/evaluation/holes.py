"""Holes: the unknown pieces inside strings, each carried as a short mark with a number."""

from __future__ import annotations

import re
from collections.abc import Iterator

from allmend.planning.evaluation.values import DERIVED, HOLE_END, HOLE_START, Either, Made, Symbol, Unknown, Value

_HOLE = re.compile(f"{HOLE_START}(\\d+){HOLE_END}")
LONGEST = 200_000
"""Longer strings are cut: they are data, not targets."""


class Holes:
    """The unknown pieces of one notebook, by number."""

    __slots__ = ("_numbers", "rows")

    def __init__(self) -> None:
        self.rows: list[Unknown] = []
        self._numbers: dict[Unknown, int] = {}

    def mark(self, unknown: Unknown) -> str:
        """The mark that stands for `unknown` inside a string."""
        number = self._numbers.get(unknown)
        if number is None:
            number = self._numbers[unknown] = len(self.rows)
            self.rows.append(unknown)
        return f"{HOLE_START}{number}{HOLE_END}"

    def within(self, text: str) -> Iterator[Unknown]:
        """The unknown pieces of `text`, in order."""
        for match in _HOLE.finditer(text):
            number = int(match[1])
            if number < len(self.rows):
                yield self.rows[number]

    def shown(self, text: str) -> str:
        """`text` for people: each hole as its source expression, in braces unless it is a shell variable."""
        if HOLE_START not in text and DERIVED not in text:
            return text
        text = text.replace(DERIVED, "")

        def source(match: re.Match[str]) -> str:
            number = int(match[1])
            name = self.rows[number].source if number < len(self.rows) else "?"
            if name.startswith(("$", "{", "`")):
                return name
            return name if match[0] == text else "{" + name + "}"

        return _HOLE.sub(source, text).replace(HOLE_START, "").replace(HOLE_END, "")

    def reason(self, text: str) -> str:
        """Why `text` is not known: the reasons of its holes."""
        reasons = list(dict.fromkeys(hole.reason for hole in self.within(text)))
        return "; ".join(reasons[:2]) or "it cannot be worked out"

    def text(self, value: Value, source: str = "") -> str:
        """`value` as `str()` would give it, with holes for what is not known."""
        if isinstance(value, str):
            return value if len(value) <= LONGEST else value[:LONGEST]
        if value is None or isinstance(value, bool | int | float):
            return str(value)
        if isinstance(value, Unknown):
            return self.mark(value)
        if isinstance(value, Made):
            return self.mark(Unknown(source or value.source or value.path, value.reason))
        if isinstance(value, Either):
            return self.text(value.options[0][1], source)
        if isinstance(value, Symbol):
            return self.mark(Unknown(source or value.path, f"{value.path} comes from a library"))
        if isinstance(value, list | tuple | dict):
            try:
                return str(value)[:LONGEST] if _plain(value) else self.mark(Unknown(source or "a list", "a collection"))
            except (RecursionError, ValueError):
                pass
        return self.mark(Unknown(source or type(value).__name__.lower(), "it is made by the notebook's own code"))


def _plain(value: Value, depth: int = 6) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(_plain(v, depth - 1) for v in value.values())
    if isinstance(value, list | tuple):
        return depth > 0 and all(_plain(v, depth - 1) for v in value)
    return value is None or isinstance(value, str | bool | int | float)
