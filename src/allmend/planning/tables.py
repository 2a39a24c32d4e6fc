"""Data tables of library calls: which dotted paths have which effect. Adding a library is adding lines to a TOML file.

A row of `[[call]]`:

    paths   patterns over dotted paths; `*` stands for anything; a call inside a path is written `()`
    kind    the effect's kind
    arg     where the target is: positions and keyword names, first given wins
    as      how to read it: `hub`, `url`, `name`, `path`, `service`, or `fixed` (the target is written in the row)
    target  the fixed target, or the one to use when the argument is not given
    prefix  put before a known target (`tfds:`)
    when    keywords and the values they must have; `unless`: values they must not have
    detail  detail fields: a keyword's value (`"=revision"`) or a constant

Other packages add tables by the entry-point group `allmend.effects`: an entry point loads to the text of a TOML file,
or to a function that returns it.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from allmend.errors import InputError


@dataclass(slots=True, frozen=True)
class Row:
    """One row of `[[call]]`."""

    kind: str
    how: str
    arg: tuple[int | str, ...] = ()
    target: str | None = None
    prefix: str = ""
    when: dict[str, Any] = field(default_factory=dict)
    unless: dict[str, Any] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)


class _Pattern:
    """A pattern over dotted paths, compiled when a path holds its longest literal piece (most never are)."""

    __slots__ = ("_compiled", "_literal", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._literal = max(re.split(r"\*|\[\?\]", text), key=len)
        self._compiled: re.Pattern[str] | None = None

    def match(self, path: str) -> bool:
        """Whether `path` is of this shape."""
        if self._literal not in path:
            return False
        if self._compiled is None:
            text = self._text if "[?]" in self._text else self._text.replace("[", "[[]")
            self._compiled = re.compile(fnmatch.translate(text))
        return self._compiled.match(path) is not None


class Tables:
    """Every table, indexed for looking a dotted path up."""

    def __init__(self, documents: list[dict[str, Any]]) -> None:
        self._exact: dict[str, list[Row]] = {}
        self._last: dict[str, list[tuple[_Pattern, Row]]] = {}
        self._open: list[tuple[_Pattern, Row]] = []
        self._found: dict[str, tuple[Row, ...]] = {}
        self.sets: dict[str, frozenset[str]] = {}
        self.maps: dict[str, dict[str, Any]] = {}
        for document in documents:
            for row in document.get("call", []):
                self._add(row)
            for name, words in document.get("sets", {}).items():
                self.sets[name] = self.sets.get(name, frozenset()) | frozenset(words)
            for name, table in document.get("maps", {}).items():
                self.maps.setdefault(name, {}).update(table)

    def _add(self, raw: dict[str, Any]) -> None:
        row = Row(
            kind=raw["kind"], how=raw.get("as", "fixed" if "arg" not in raw else "name"), arg=tuple(raw.get("arg", ())),
            target=raw.get("target"), prefix=raw.get("prefix", ""), when=raw.get("when", {}),
            unless=raw.get("unless", {}), detail=raw.get("detail", {}),
        )  # fmt: skip
        for pattern in raw["paths"]:
            if "*" not in pattern and "[?]" not in pattern:
                self._exact.setdefault(pattern, []).append(row)
                continue
            compiled = _Pattern(pattern)
            last = pattern.rpartition(".")[2]
            if "*" in last:
                self._open.append((compiled, row))
            else:
                self._last.setdefault(last, []).append((compiled, row))

    def rows(self, path: str) -> tuple[Row, ...]:
        """The rows for a dotted path."""
        found = self._found.get(path)
        if found is None:
            rows = list(self._exact.get(path, ()))
            rows.extend(row for pattern, row in self._last.get(path.rpartition(".")[2], ()) if pattern.match(path))
            rows.extend(row for pattern, row in self._open if pattern.match(path))
            found = tuple(rows)
            if len(self._found) < 50_000:
                self._found[path] = found
        return found

    def has(self, path: str) -> bool:
        """Whether any row speaks of this dotted path."""
        return bool(self.rows(path))


@cache
def load() -> Tables:
    """The tables of this package and of installed packages that add some."""
    documents = []
    for file in sorted(resources.files("allmend.planning").joinpath("tables").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml") and file.name != "hosts.toml":
            documents.append(tomllib.loads(file.read_text("utf-8")))
    documents.extend(_added())
    return Tables(documents)


def _added() -> list[dict[str, Any]]:
    from importlib.metadata import entry_points

    documents = []
    for point in entry_points(group="allmend.effects"):
        try:
            loaded = point.load()
            documents.append(tomllib.loads(loaded() if callable(loaded) else loaded))
        except (tomllib.TOMLDecodeError, ImportError, AttributeError, TypeError) as error:
            raise InputError(
                f"the effect table that package added cannot be read: {error}", where=f"entry point {point.name}"
            ) from None
    return documents
