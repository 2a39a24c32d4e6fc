"""What every part of the evaluator shares: the session, scopes, the place that is read, the budget."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from allmend.planning.calls import segment
from allmend.planning.pure import MISSING
from allmend.planning.scope import Journal, Scope
from allmend.planning.values import (
    Bound,
    Class,
    Function,
    Holes,
    Made,
    Member,
    Object,
    Place,
    Symbol,
    Unknown,
    Value,
)  # fmt: skip

if TYPE_CHECKING:
    from allmend.planning.session import Session


class Evaluator:
    """The state of the evaluator, and what its parts ask of each other."""

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
        self.stars: list[str] = []
        self.naming: ast.expr | None = None

    def eval(self, node: ast.expr) -> Value:
        """The value of an expression; the class that knows all of them says how."""
        raise NotImplementedError

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
