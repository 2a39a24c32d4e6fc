"""What `owner.name` is, for every kind of value."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Callable
from typing import TYPE_CHECKING

from allmend.planning.evaluation.values import (
    Bound,
    Class,
    Either,
    Function,
    Made,
    Member,
    Object,
    PathText,
    Symbol,
    Unknown,
    Value,
    combine,
)

if TYPE_CHECKING:
    from allmend.planning.evaluation.python import Python

_PATH_ATTRIBUTES: dict[str, Callable[[str], Value]] = {
    "name": posixpath.basename,
    "stem": lambda p: posixpath.splitext(posixpath.basename(p))[0],
    "suffix": lambda p: posixpath.splitext(p)[1],
    "parent": lambda p: PathText(posixpath.dirname(p) or "."),
}


def _member_of(owner: Value, name: str) -> Value:
    """`owner.name` for Python's own values."""
    if isinstance(owner, PathText) and name in _PATH_ATTRIBUTES:
        return _PATH_ATTRIBUTES[name](owner)
    kind = "path" if isinstance(owner, PathText) else type(owner).__name__.lower()
    return Member(f"{kind}.{name}", owner)


def attribute(python: Python, owner: Value, name: str) -> Value:
    """`owner.name`."""
    if isinstance(owner, Symbol):
        return python.session.symbol(f"{owner.path}.{name}")
    if isinstance(owner, Object):
        if name in owner.attributes:
            return owner.attributes[name]
        found = owner.of.find(name)
        if isinstance(found, Function):
            return Bound(found, owner)
        if found is not None:
            return found
        base = next((b for b in owner.of.bases if isinstance(b, Symbol | Made)), None)
        return Member(f"{base.path if base else '?'}().{name}", owner)
    if isinstance(owner, Class):
        found = owner.find(name)
        if found is None:
            return Member(f"?{owner.name}.{name}", owner)
        return Bound(found, owner) if isinstance(found, Function) and _takes_class(found) else found
    if isinstance(owner, Made):
        if name in owner.attributes:
            return owner.attributes[name]
        return Member(f"{owner.path}.{name}", owner)
    if isinstance(owner, Member):
        return Member(f"{owner.path}.{name}", owner.receiver)
    if isinstance(owner, Unknown):
        return Member(f"{owner.path}.{name}", owner)
    if isinstance(owner, Either):
        return combine([owner], lambda row: attribute(python, row[0], name))
    return _member_of(owner, name)


def _takes_class(function: Function) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "classmethod" for d in getattr(function.node, "decorator_list", []))
