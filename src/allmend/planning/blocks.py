"""Blocks of statements: branches with what their tests say, loops over known values, with, try."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from allmend.planning.calls import segment
from allmend.planning.functions import Functions
from allmend.planning.narrowing import Told, told, within, without
from allmend.planning.scope import Scope
from allmend.planning.values import (
    Class,
    Function,
    Made,
    Symbol,
    Unknown,
    Value,
)

if TYPE_CHECKING:
    pass

ITERATIONS = 200
"""Rounds of a loop over known values."""


NUMBERS = 6
"""Rounds of a loop over numbers, which name few targets."""


INDEXED = 12
"""Rounds of a loop over numbers that pick from lists."""


def _picks(node: ast.For | ast.AsyncFor, lines: tuple[str, ...]) -> bool:
    """Whether the loop's variable picks items (`urls[i]`), also inside a shell line, which no tree shows."""
    names = [re.escape(name.id) for name in ast.walk(node.target) if isinstance(name, ast.Name)]
    body = "\n".join(lines[node.lineno : (node.end_lineno or node.lineno)])
    return bool(names) and bool(re.search(rf"\[[^\]\n]*\b(?:{'|'.join(names)})\b", body))


class Blocks(Functions):
    """Follows statements that hold others."""

    def assign(self, target: ast.expr, value: Value, source: ast.expr) -> None:
        """Bind `target` to `value`; the class that knows all targets says how."""
        raise NotImplementedError

    def _if(self, node: ast.If) -> None:
        arms: list[Callable[[], None]] = []
        refused: dict[str, list[Value]] = {}
        rest: list[ast.stmt] = [node]
        while len(rest) == 1 and isinstance(rest[0], ast.If):
            branch = rest[0]
            self.line = branch.lineno
            self.eval(branch.test)
            known = told(branch.test)
            arms.append(self._narrowed(branch.body, known, dict(refused), branch.lineno))
            if known is not None:
                refused[known[0]] = [*refused.get(known[0], []), *known[1]]
            rest = branch.orelse
        if rest:
            arms.append(self._narrowed(rest, None, refused, node.lineno))
        self.journal.branch(arms, may_skip=not rest)

    def _arm(self, body: list[ast.stmt]) -> Callable[[], None]:
        return lambda: self.run(body)

    def _narrowed(
        self, body: list[ast.stmt], known: Told | None, refused: dict[str, list[Value]], line: int
    ) -> Callable[[], None]:
        """One way of an `if`, in which the names that were tested hold only what the tests leave."""
        if known is None and not refused:
            return self._arm(body)

        def arm() -> None:
            put: list[tuple[dict[str, Value], str, Value, Value]] = []
            for name in {**refused, **({known[0]: []} if known else {})}:
                names, old = self._holder(name), self.look_up(name)
                if names is None or isinstance(old, Function | Class | Symbol | Made):
                    continue
                if known is not None and name == known[0]:
                    new = within(old, known[1], 4_000_000 + self.place.cell * 10_000 + line)
                else:
                    new = without(old, refused[name], name)
                if new is not old:
                    self.journal.set(names, name, new)
                    put.append((names, name, old, new))
            self.run(body)
            for names, name, old, new in put:
                if names.get(name) is new:
                    self.journal.set(names, name, old)

        return arm

    def _holder(self, name: str) -> dict[str, Value] | None:
        """The namespace that holds `name`."""
        scope: Scope | None = self.scope
        while scope is not None:
            if name in scope.names:
                return scope.names
            scope = scope.parent
        return self.globals.names if name in self.globals.names else None

    def _match(self, node: ast.Match) -> None:
        self.eval(node.subject)
        self.journal.branch([self._arm(case.body) for case in node.cases], may_skip=True)

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        items = self.iterate(self.eval(node.iter), node.iter)
        counting = bool(items) and all(isinstance(item, int | float) for item in (items or [])[:4])
        if items is None or (counting and len(items) > NUMBERS and not _picks(node, self.place.lines)):
            # Numbers of a long loop name many files of one kind: one target with a hole says it better than six of them.
            reason = (
                "it changes in a loop over values that are not known" if items is None else "it changes in a long loop"
            )
            self.assign(node.target, Unknown(segment(self.place, node.target), reason), node.iter)
            self.run(node.body)
        else:
            rounds = ITERATIONS if not counting else INDEXED
            if len(items) > rounds and not counting:
                self.session.unread(f"a loop over {len(items)} values is followed for the first {rounds} of them")
            for item in items[:rounds]:
                if self.budget <= 0:
                    break
                self.assign(node.target, item, node.iter)
                self.run(node.body)
            if not items:
                self.assign(node.target, Unknown(segment(self.place, node.target), "it changes in a loop"), node.iter)
                self.run(node.body)
        self.run(node.orelse)

    def _while(self, node: ast.While) -> None:
        self.eval(node.test)
        self.run(node.body)
        self.run(node.orelse)

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            value = self.eval(item.context_expr)
            if item.optional_vars is not None:
                self.assign(item.optional_vars, value, item.context_expr)
        self.run(node.body)

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        self.run(node.body)
        for handler in node.handlers:
            if handler.name:
                self.bind(handler.name, Unknown(handler.name, "it is an exception"))
        if node.handlers:
            self.journal.branch([self._arm(handler.body) for handler in node.handlers], may_skip=True)
        self.run(node.orelse)
        self.run(node.finalbody)
