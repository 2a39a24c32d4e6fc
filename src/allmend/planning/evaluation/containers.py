"""Containers of the constant language: lists, dictionaries, items, slices, comprehensions."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allmend.planning.evaluation.assignments import assign
from allmend.planning.evaluation.calls import segment
from allmend.planning.evaluation.scope import Scope
from allmend.planning.evaluation.values import (
    MISSING,
    Made,
    Member,
    Symbol,
    Unknown,
    Value,
    combine,
    either,
    has_hole,
    iterate,
)  # fmt: skip

if TYPE_CHECKING:
    from allmend.planning.evaluation.python import Python


def _list(python: Python, node: ast.List | ast.Set) -> Value:
    values: list[Value] = []
    for item in node.elts:
        value = python.eval(item)
        if isinstance(item, ast.Starred) and isinstance(value, list | tuple):
            values.extend(value)
        else:
            values.append(value)
    return values


def _tuple(python: Python, node: ast.Tuple) -> Value:
    return tuple(python.eval(item) for item in node.elts)


def _dict(python: Python, node: ast.Dict) -> Value:
    made: dict[Any, Value] = {}
    for key_node, value_node in zip(node.keys, node.values, strict=True):
        value = python.eval(value_node)
        if key_node is None:
            if isinstance(value, dict):
                made.update(value)
            continue
        key = python.eval(key_node)
        if isinstance(key, str | int | float | bool) or key is None:
            made[key] = value
    return made


def _subscript(python: Python, node: ast.Subscript) -> Value:
    owner, key = python.eval(node.value), python.eval(node.slice)
    return combine([owner, key], lambda row: _item(python, row[0], row[1], node))


def _item(python: Python, owner: Value, key: Value, node: ast.Subscript) -> Value:
    if isinstance(owner, dict):
        if isinstance(key, str | int | float | bool) and key in owner:
            return owner[key]
        if owner and isinstance(key, Unknown) and len(owner) <= 16 and all(isinstance(v, str) for v in owner.values()):
            branch = 2_000_000 + (id(node) & 0xFFFFFFF)
            return either([(((branch, n),), v) for n, v in enumerate(owner.values())])
        return python.unknown(node, "the key is not known")
    if isinstance(owner, list | tuple | str):
        if isinstance(key, slice):
            try:
                return owner[key]
            except (TypeError, ValueError):
                return python.unknown(node, "the slice is not known")
        if (
            isinstance(key, int)
            and -len(owner) <= key < len(owner)
            and not (isinstance(owner, str) and has_hole(owner))
        ):
            return owner[key]
        return python.unknown(node, "the place in the list is not known")
    if isinstance(owner, Symbol):
        found = python.session.observer.on_get_item(owner.path, key, node)
        if found is not MISSING:
            return found
        return Symbol(owner.path + "[]")
    if isinstance(owner, Made):
        return Made(owner.path + "[]", [key], {}, owner, {}, segment(python.place, node), owner.reason)
    if isinstance(owner, Member):
        return Made(owner.path + "[]", [key], {}, owner.receiver, {}, segment(python.place, node))
    if isinstance(owner, Unknown):
        return Unknown(segment(python.place, node), owner.reason)
    return python.unknown(node, "it is made while the notebook runs")


def _slice(python: Python, node: ast.Slice) -> Value:
    parts = [python.eval(p) if p is not None else None for p in (node.lower, node.upper, node.step)]
    if all(p is None or (isinstance(p, int) and not isinstance(p, bool)) for p in parts) and parts[2] != 0:
        return slice(*parts)
    return python.unknown(node, "the slice is not known")


def _comprehension(python: Python, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Value:
    made: list[Value] = []
    known = _generate(python, node.generators, 0, lambda: made.append(python.eval(node.elt)))
    if known and not any(generator.ifs for generator in node.generators):
        return made
    return python.unknown(node, "it loops over values that are not known")


def _dict_comprehension(python: Python, node: ast.DictComp) -> Value:
    made: dict[Any, Value] = {}

    def put() -> None:
        key, value = python.eval(node.key), python.eval(node.value)
        if isinstance(key, str | int):
            made[key] = value

    _generate(python, node.generators, 0, put)
    return made


def _generate(python: Python, generators: list[ast.comprehension], at: int, body: Callable[[], None]) -> bool:
    """Follow `body` in every round of the loops from number `at` on; whether all that they run over is known."""
    if at == len(generators):
        body()
        return True
    generator = generators[at]
    outer, python.scope = python.scope, Scope(python.scope)
    try:
        items = iterate(python.eval(generator.iter))
        known = items is not None
        if items is None:
            items = [
                Unknown(segment(python.place, generator.target), "it changes in a loop over values that are not known")
            ]
        for item in items[:200]:
            if python.budget <= 0:
                break
            assign(python, generator.target, item, generator.iter)
            for condition in generator.ifs:
                python.eval(condition)
            known = _generate(python, generators, at + 1, body) and known
        return known
    finally:
        python.scope = outer


EXPRESSIONS: dict[type[ast.expr], Callable[[Python, Any], Value]] = {
    ast.List: _list, ast.Tuple: _tuple, ast.Set: _list, ast.Dict: _dict, ast.Subscript: _subscript, ast.Slice: _slice,
    ast.ListComp: _comprehension, ast.SetComp: _comprehension, ast.GeneratorExp: _comprehension,
    ast.DictComp: _dict_comprehension,
}  # fmt: skip
