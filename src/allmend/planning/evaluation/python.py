"""Following Python: statements in order, expressions as far as their values can be worked out.

Nothing is executed. Every visit of a node costs one unit of a budget; when it is spent, what is left is named as
unread. Values are those of `values.py`. Each kind of node has one function, and the module that it stands in says what
it is about: `expressions`, `attributes`, `operators`, `containers`, `invoking` and `functions` for values, `assignments`,
`definitions` and `blocks` for statements.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from allmend.planning.evaluation import assignments, blocks, containers, definitions, expressions, invoking, operators
from allmend.planning.evaluation.calls import segment
from allmend.planning.evaluation.holes import Holes
from allmend.planning.evaluation.scope import Journal, Scope
from allmend.planning.evaluation.values import (
    MISSING,
    Bound,
    Class,
    Function,
    Made,
    Member,
    Object,
    Place,
    Symbol,
    Unknown,
    Value,
)

if TYPE_CHECKING:
    from allmend.planning.session import Session

NESTING = 90
"""Expressions within expressions that are followed."""


class Python:
    """Follows the statements of a notebook in order.

    Attributes:
        place: the cell that is read, and its lines; `line` is the statement's.
        budget: nodes that may still be visited.
        depth: calls of the notebook's own functions that are under way; `nesting` counts expressions in expressions.
        returns: what the function that is followed has returned so far; None outside of one.
        functions: every function met, so that those that nothing calls are read too.
        stars: modules of which all names were imported.
        naming: the target of the assignment whose value is being worked out.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.holes: Holes = session.holes
        self.journal: Journal = session.journal
        self.globals = Scope()
        self.scope = self.globals
        self.place = Place(0, 0, ())
        self.line = 1
        self.budget = 0
        self.depth = 0
        self.nesting = 0
        self.returns: list[Value] | None = None
        self.functions: list[Function] = []
        self.stars: list[str] = []
        self.naming: ast.expr | None = None

    def run(self, body: Iterable[ast.stmt]) -> None:
        """Follow `body` in the current scope."""
        for statement in body:
            if self.budget <= 0:
                return
            self.budget -= 1
            follow = _STATEMENTS.get(type(statement))
            if follow is not None:
                self.line = statement.lineno
                follow(self, statement)

    def eval(self, node: ast.expr) -> Value:
        """The value of an expression, also of an odd one; effects of calls inside it are recorded on the way."""
        self.budget -= 1
        evaluate = _EXPRESSIONS.get(type(node))
        if evaluate is None or self.budget <= 0 or self.nesting > NESTING:
            return Unknown(segment(self.place, node), "it is too deep or too long to follow")
        self.nesting += 1
        try:
            return evaluate(self, node)
        finally:
            self.nesting -= 1

    def unknown(self, node: ast.AST, reason: str) -> Unknown:
        """An unknown value for `node`."""
        return Unknown(segment(self.place, node), reason)

    def bind(self, name: str, value: Value) -> None:
        """Assign a name in the current scope."""
        scope = self.globals if name in self.scope.declared_global else self.scope
        self.journal.set(scope.names, name, value)

    def look_up(self, name: str) -> Value:
        """What a name holds, or MISSING."""
        scope: Scope | None = self.scope
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return self.globals.names.get(name, MISSING)

    def settle(self, value: Value, node: ast.AST) -> Value:
        """`value` with a source text, so that a hole made from it says what was written."""
        if isinstance(value, Made | Member | Object | Function | Class | Bound):
            reason = value.reason if isinstance(value, Made) else "it is made while the notebook runs"
            return Unknown(segment(self.place, node), reason)
        if isinstance(value, Symbol):
            return Unknown(segment(self.place, node), f"{value.path} comes from a library")
        return value


def _nothing(python: Python, node: ast.stmt) -> None:
    """Nothing happens."""


def _expr(python: Python, node: ast.Expr) -> None:
    python.eval(node.value)


def _assert(python: Python, node: ast.Assert) -> None:
    python.eval(node.test)


def _raise(python: Python, node: ast.Raise) -> None:
    if node.exc is not None:
        python.eval(node.exc)


def _return(python: Python, node: ast.Return) -> None:
    value = python.eval(node.value) if node.value is not None else None
    if python.returns is not None:
        python.returns.append(value)


_EXPRESSIONS: dict[type[ast.expr], Callable[[Python, Any], Value]] = {
    **expressions.EXPRESSIONS, **operators.EXPRESSIONS, **containers.EXPRESSIONS, **invoking.EXPRESSIONS,
}  # fmt: skip
_STATEMENTS: dict[type[ast.stmt], Callable[[Python, Any], None]] = {
    **assignments.STATEMENTS, **definitions.STATEMENTS, **blocks.STATEMENTS, ast.Expr: _expr, ast.Assert: _assert,
    ast.Raise: _raise, ast.Return: _return, ast.Nonlocal: _nothing, ast.Pass: _nothing, ast.Break: _nothing,
    ast.Continue: _nothing,
}  # fmt: skip
