"""The values of the small constant language: what can be known of a notebook's variables without running it.

Known values are Python's own (`str`, `int`, `list`, `dict`…). Beside them:

* a *hole* is an unknown piece inside a string; it is carried as a short mark, so that every string operation keeps
  working on the rest (`"https://host/" + name` keeps its host); see `holes`;
* `Unknown` is a value of which nothing is known, with the expression and the reason;
* `Either` is one of several values, depending on which way a branch goes;
* `Symbol` is something imported, by its dotted path; `Made` is what calling a symbol returned;
* `Function` and `Class` are defined in the notebook.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

HOLE_START, HOLE_END, DERIVED = "\U000f0000", "\U000f0001", "\U000f0002"
LIMIT = 32
"""The most alternatives that one value is followed into."""
MOST_ARMS = 10
"""The most branches that one alternative remembers; older ones are forgotten, which only adds alternatives."""


Value = Any
"""Any of the values above; a plain alias, because known values are Python's own."""


class _Missing:
    """Nothing was found; unlike None, which is a value."""

    def __bool__(self) -> bool:
        return False


MISSING: Any = _Missing()


@dataclass(slots=True, frozen=True)
class Unknown:
    """A value that cannot be worked out."""

    source: str
    reason: str
    path: str = "?"
    """A dotted path that calls on it may still be recognised by (`?` when nothing is known)."""


@dataclass(slots=True, frozen=True)
class Symbol:
    """Something from outside the notebook, by its dotted path (`torch.hub.load`)."""

    path: str


@dataclass(slots=True)
class Made:
    """What a call returned: an object known only by how it was made."""

    path: str
    """The path of the call, ending in `()`."""
    args: list[Value] = field(default_factory=list)
    keywords: dict[str, Value] = field(default_factory=dict)
    receiver: Value = None
    attributes: dict[str, Value] = field(default_factory=dict)
    source: str = ""
    reason: str = "the result of a call"


@dataclass(slots=True)
class Member:
    """An attribute of a value: what a method call starts from."""

    path: str
    receiver: Value


@dataclass(slots=True, frozen=True)
class Place:
    """Where code stands: its cell, the lines before it in the cell, and its text by line."""

    cell: int
    above: int
    lines: tuple[str, ...]


@dataclass(slots=True)
class Function:
    """A function or lambda defined in the notebook."""

    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    place: Place
    closure: Any
    owner: Class | None = None
    calls: int = 0
    running: int = 0


@dataclass(slots=True)
class Class:
    """A class defined in the notebook."""

    name: str
    bases: list[Value]
    members: dict[str, Value] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    """Annotated names in order: what a dataclass takes."""

    def find(self, name: str, depth: int = 8) -> Value:
        """A member of the class or of its bases in the notebook, or None."""
        if name in self.members:
            return self.members[name]
        for base in self.bases if depth else []:
            if isinstance(base, Class):
                found = base.find(name, depth - 1)
                if found is not None:
                    return found
        return None


@dataclass(slots=True)
class Object:
    """An instance of a class of the notebook."""

    of: Class
    attributes: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class Bound:
    """A method together with the object it was taken from."""

    function: Function
    receiver: Value


Arms = tuple[tuple[int, int], ...]
"""Which way each branch went: (branch, arm) pairs."""


@dataclass(slots=True, frozen=True)
class Either:
    """One of several values, each under the branches that lead to it."""

    options: tuple[tuple[Arms, Value], ...]


class PathText(str):
    """A string that came from `pathlib.Path`, so that `/` joins."""

    __slots__ = ()


def options(value: Value) -> tuple[tuple[Arms, Value], ...]:
    """The alternatives of `value`; a plain value is its own only one."""
    return value.options if isinstance(value, Either) else (((), value),)


def strings(value: Value) -> Iterator[str]:
    """The alternatives of `value` that are text."""
    for _, option in options(value):
        if isinstance(option, str):
            yield option


def either(choices: list[tuple[Arms, Value]]) -> Value:
    """An `Either` of `choices` without repeats; the value itself when only one is left."""
    kept: list[tuple[Arms, Value]] = []
    seen: set[str] = set()
    for arms, value in choices:
        key = value_key(value)
        if key in seen:
            continue
        seen.add(key)
        kept.append((arms, value))
        if len(kept) >= LIMIT:
            break
    if len(kept) == 1:
        return kept[0][1]
    return Either(tuple(kept))


def value_key(value: Value) -> str:
    """A key under which equal values are one."""
    if isinstance(value, str):
        return "s" + value
    if isinstance(value, bool | int | float) or value is None:
        return f"{type(value).__name__}{value!r}"
    if isinstance(value, Symbol):
        return "y" + value.path
    if isinstance(value, Unknown):
        return "u" + value.source
    return f"i{id(value)}"


def agree(left: Arms, right: Arms) -> Arms | None:
    """Both conditions at once, or None when they contradict."""
    if not left:
        return right
    if not right:
        return left
    if left == right:
        return left
    taken = dict(left)
    for branch, arm in right:
        if taken.setdefault(branch, arm) != arm:
            return None
    return tuple(taken.items()) if len(taken) <= MOST_ARMS else tuple(taken.items())[-MOST_ARMS:]


def combine(values: list[Value], make: Callable[[list[Value]], Value]) -> Value:
    """`make` applied to every consistent combination of alternatives."""
    if not any(isinstance(value, Either) for value in values):
        return make(values)
    rows: list[tuple[Arms, list[Value]]] = [((), [])]
    for value in values:
        grown: list[tuple[Arms, list[Value]]] = []
        for arms, row in rows:
            for more, option in options(value):
                both = agree(arms, more)
                if both is not None:
                    grown.append((both, [*row, option]))
                    if len(grown) >= LIMIT:
                        break
            if len(grown) >= LIMIT:
                break
        rows = grown
    if not rows:
        return make([options(value)[0][1] for value in values])
    return either([(arms, make(row)) for arms, row in rows])


def has_hole(text: str) -> bool:
    """Whether a string has an unknown piece."""
    return HOLE_START in text


def iterate(value: Value) -> list[Value] | None:
    """The items that a loop over `value` would give, or None when they are not known."""
    if isinstance(value, Either):
        found = [iterate(option) for _, option in value.options]
        known = [items for items in found if items is not None]
        return [item for items in known for item in items][:200] if known else None
    if isinstance(value, list | tuple | dict):
        return list(value)
    if isinstance(value, range):
        return list(value[:64])
    return None


def derived(value: Value) -> Value:
    """`value` with every text marked as worked out rather than written."""
    if isinstance(value, str) and DERIVED not in value:
        return DERIVED + value
    if isinstance(value, Either):
        return Either(tuple((arms, derived(option)) for arms, option in value.options))
    return value
