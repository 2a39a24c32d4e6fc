"""Containers of the constant language: lists, dictionaries, items, slices, comprehensions."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allmend.planning.calls import segment
from allmend.planning.evaluator import Evaluator
from allmend.planning.pure import MISSING
from allmend.planning.scope import Scope
from allmend.planning.values import (
    Either,
    Made,
    Member,
    Symbol,
    Unknown,
    Value,
    combine,
    has_hole,
)  # fmt: skip

if TYPE_CHECKING:
    pass


class Containers(Evaluator):
    """Evaluates what holds other values."""

    def _list(self, node: ast.List | ast.Set) -> Value:
        values: list[Value] = []
        for item in node.elts:
            value = self.eval(item)
            if isinstance(item, ast.Starred) and isinstance(value, list | tuple):
                values.extend(value)
            else:
                values.append(value)
        return values

    def _tuple(self, node: ast.Tuple) -> Value:
        return tuple(self.eval(item) for item in node.elts)

    def _dict(self, node: ast.Dict) -> Value:
        made: dict[Any, Value] = {}
        for key_node, value_node in zip(node.keys, node.values, strict=True):
            value = self.eval(value_node)
            if key_node is None:
                if isinstance(value, dict):
                    made.update(value)
                continue
            key = self.eval(key_node)
            if isinstance(key, str | int | float | bool) or key is None:
                made[key] = value
        return made

    def _subscript(self, node: ast.Subscript) -> Value:
        owner, key = self.eval(node.value), self.eval(node.slice)
        return combine([owner, key], lambda row: self._item(row[0], row[1], node))

    def _item(self, owner: Value, key: Value, node: ast.Subscript) -> Value:
        if isinstance(owner, dict):
            if isinstance(key, str | int | float | bool) and key in owner:
                return owner[key]
            if (
                owner
                and isinstance(key, Unknown)
                and len(owner) <= 16
                and all(isinstance(v, str) for v in owner.values())
            ):
                branch = 2_000_000 + (id(node) & 0xFFFFFFF)
                from allmend.planning.values import either

                return either([(((branch, n),), v) for n, v in enumerate(owner.values())])
            return self.unknown(node, "the key is not known")
        if isinstance(owner, list | tuple | str):
            if isinstance(key, slice):
                try:
                    return owner[key]
                except (TypeError, ValueError):
                    return self.unknown(node, "the slice is not known")
            if (
                isinstance(key, int)
                and -len(owner) <= key < len(owner)
                and not (isinstance(owner, str) and has_hole(owner))
            ):
                return owner[key]
            return self.unknown(node, "the place in the list is not known")
        if isinstance(owner, Symbol):
            found = self.session.on_get_item(owner.path, key, node)
            if found is not MISSING:
                return found
            return Symbol(owner.path + "[]")
        if isinstance(owner, Made):
            return Made(owner.path + "[]", [key], {}, owner, {}, segment(self.place, node), owner.reason)
        if isinstance(owner, Member):
            return Made(owner.path + "[]", [key], {}, owner.receiver, {}, segment(self.place, node))
        if isinstance(owner, Unknown):
            return Unknown(segment(self.place, node), owner.reason)
        return self.unknown(node, "it is made while the notebook runs")

    def _slice(self, node: ast.Slice) -> Value:
        parts = [self.eval(p) if p is not None else None for p in (node.lower, node.upper, node.step)]
        if all(p is None or (isinstance(p, int) and not isinstance(p, bool)) for p in parts) and parts[2] != 0:
            return slice(*parts)
        return self.unknown(node, "the slice is not known")

    def iterate(self, value: Value, node: ast.AST) -> list[Value] | None:
        """The items that a loop over `value` would give, or None when they are not known."""
        if isinstance(value, Either):
            found = [self.iterate(option, node) for _, option in value.options]
            known = [items for items in found if items is not None]
            return [item for items in known for item in items][:200] if known else None
        if isinstance(value, list | tuple):
            return list(value)
        if isinstance(value, dict):
            return list(value)
        if isinstance(value, range):
            return list(value[:64])
        return None

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Value:
        made: list[Value] = []
        self._generate(node.generators, 0, lambda: made.append(self.eval(node.elt)))
        return made if self._closed(node.generators) else self.unknown(node, "it loops over values that are not known")

    def _dict_comprehension(self, node: ast.DictComp) -> Value:
        made: dict[Any, Value] = {}

        def put() -> None:
            key, value = self.eval(node.key), self.eval(node.value)
            if isinstance(key, str | int):
                made[key] = value

        self._generate(node.generators, 0, put)
        return made

    def _closed(self, generators: list[ast.comprehension]) -> bool:
        return all(not g.ifs for g in generators) and getattr(self, "_open", 0) == 0

    def _generate(self, generators: list[ast.comprehension], at: int, body: Callable[[], None]) -> None:
        if at == 0:
            self._open = 0
        if at == len(generators):
            body()
            return
        generator = generators[at]
        outer, self.scope = self.scope, Scope(self.scope)
        try:
            items = self.iterate(self.eval(generator.iter), generator.iter)
            if items is None:
                self._open = 1
                items = [
                    Unknown(
                        segment(self.place, generator.target), "it changes in a loop over values that are not known"
                    )
                ]
            for item in items[:200]:
                if self.budget <= 0:
                    return
                self.session.python.assign(generator.target, item, generator.iter)
                for condition in generator.ifs:
                    self.eval(condition)
                self._generate(generators, at + 1, body)
        finally:
            self.scope = outer
