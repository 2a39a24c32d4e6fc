"""Blocks of statements: branches with what their tests say, loops over known values, with, try."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allmend.planning.evaluation.assignments import assign
from allmend.planning.evaluation.calls import segment
from allmend.planning.evaluation.narrowing import Told, told, within, without
from allmend.planning.evaluation.scope import Scope
from allmend.planning.evaluation.values import Class, Function, Made, Symbol, Unknown, Value, iterate

if TYPE_CHECKING:
    from allmend.planning.evaluation.python import Python

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


def _if(python: Python, node: ast.If) -> None:
    arms: list[Callable[[], None]] = []
    refused: dict[str, list[Value]] = {}
    rest: list[ast.stmt] = [node]
    while len(rest) == 1 and isinstance(rest[0], ast.If):
        branch = rest[0]
        python.line = branch.lineno
        python.eval(branch.test)
        known = told(branch.test)
        arms.append(_narrowed(python, branch.body, known, dict(refused), branch.lineno))
        if known is not None:
            refused[known[0]] = [*refused.get(known[0], []), *known[1]]
        rest = branch.orelse
    if rest:
        arms.append(_narrowed(python, rest, None, refused, node.lineno))
    python.journal.branch(arms, may_skip=not rest)


def _arm(python: Python, body: list[ast.stmt]) -> Callable[[], None]:
    return lambda: python.run(body)


def _narrowed(
    python: Python, body: list[ast.stmt], known: Told | None, refused: dict[str, list[Value]], line: int
) -> Callable[[], None]:
    """One way of an `if`, in which the names that were tested hold only what the tests leave."""
    if known is None and not refused:
        return _arm(python, body)

    def arm() -> None:
        put: list[tuple[dict[str, Value], str, Value, Value]] = []
        for name in {**refused, **({known[0]: []} if known else {})}:
            names, old = _holder(python, name), python.look_up(name)
            if names is None or isinstance(old, Function | Class | Symbol | Made):
                continue
            if known is not None and name == known[0]:
                new = within(old, known[1], 4_000_000 + python.place.cell * 10_000 + line)
            else:
                new = without(old, refused[name], name)
            if new is not old:
                python.journal.set(names, name, new)
                put.append((names, name, old, new))
        python.run(body)
        for names, name, old, new in put:
            if names.get(name) is new:
                python.journal.set(names, name, old)

    return arm


def _holder(python: Python, name: str) -> dict[str, Value] | None:
    """The namespace that holds `name`."""
    scope: Scope | None = python.scope
    while scope is not None:
        if name in scope.names:
            return scope.names
        scope = scope.parent
    return python.globals.names if name in python.globals.names else None


def _match(python: Python, node: ast.Match) -> None:
    python.eval(node.subject)
    python.journal.branch([_arm(python, case.body) for case in node.cases], may_skip=True)


def _for(python: Python, node: ast.For | ast.AsyncFor) -> None:
    items = iterate(python.eval(node.iter))
    counting = bool(items) and all(isinstance(item, int | float) for item in (items or [])[:4])
    if items is None or (counting and len(items) > NUMBERS and not _picks(node, python.place.lines)):
        # Numbers of a long loop name many files of one kind: one target with a hole says it better than six of them.
        reason = "it changes in a loop over values that are not known" if items is None else "it changes in a long loop"
        assign(python, node.target, Unknown(segment(python.place, node.target), reason), node.iter)
        python.run(node.body)
    else:
        rounds = ITERATIONS if not counting else INDEXED
        if len(items) > rounds and not counting:
            python.session.unread(f"a loop over {len(items)} values is followed for the first {rounds} of them")
        for item in items[:rounds]:
            if python.budget <= 0:
                break
            assign(python, node.target, item, node.iter)
            python.run(node.body)
        if not items:
            assign(python, node.target, Unknown(segment(python.place, node.target), "it changes in a loop"), node.iter)
            python.run(node.body)
    python.run(node.orelse)


def _while(python: Python, node: ast.While) -> None:
    python.eval(node.test)
    python.run(node.body)
    python.run(node.orelse)


def _with(python: Python, node: ast.With | ast.AsyncWith) -> None:
    for item in node.items:
        value = python.eval(item.context_expr)
        if item.optional_vars is not None:
            assign(python, item.optional_vars, value, item.context_expr)
    python.run(node.body)


def _try(python: Python, node: ast.Try | ast.TryStar) -> None:
    python.run(node.body)
    for handler in node.handlers:
        if handler.name:
            python.bind(handler.name, Unknown(handler.name, "it is an exception"))
    if node.handlers:
        python.journal.branch([_arm(python, handler.body) for handler in node.handlers], may_skip=True)
    python.run(node.orelse)
    python.run(node.finalbody)


STATEMENTS: dict[type[ast.stmt], Callable[[Python, Any], None]] = {
    ast.If: _if, ast.For: _for, ast.AsyncFor: _for, ast.While: _while, ast.With: _with, ast.AsyncWith: _with,
    ast.Try: _try, ast.TryStar: _try, ast.Match: _match,
}  # fmt: skip
