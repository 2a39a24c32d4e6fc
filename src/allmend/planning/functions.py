"""Functions of the notebook's own: remembered where they stand, followed when they are called."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import TYPE_CHECKING

from allmend.planning.expressions import Expressions
from allmend.planning.scope import Scope
from allmend.planning.values import Class, Either, Function, Object, Unknown, Value

if TYPE_CHECKING:
    from allmend.planning.session import Session

INLINES = 60
"""Calls of one function that are followed."""


DEPTH = 12
"""Calls within calls that are followed."""


def _returned(values: list[Value] | None, name: str) -> Value:
    kept = [value for value in values or [] if value is not None]
    if not kept:
        return None
    if len(kept) == 1:
        return kept[0]
    return Either(tuple((((-1 - hash(name) % 10_000_000, n),), value) for n, value in enumerate(kept[:8])))


class Functions(Expressions):
    """Follows calls of functions that the notebook defines."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.returns: list[Value] | None = None
        self.functions: list[Function] = []

    def run(self, body: Iterable[ast.stmt]) -> None:
        """Follow statements; the class that knows all of them says how."""
        raise NotImplementedError

    def define(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, owner: Class | None = None) -> Function:
        """A function value for `node`, remembered so that its body is read even if nothing calls it."""
        name = getattr(node, "name", "lambda")
        function = Function(name, node, self.place, self.scope, owner)
        if len(self.functions) < 5000:
            self.functions.append(function)
        return function

    def call_function(
        self,
        function: Function,
        args: list[Value],
        keywords: dict[str, Value],
        receiver: Value = None,
        *,
        final: bool = False,
    ) -> Value:
        """Follow the body of `function` with these arguments; what it returns."""
        name = function.name
        if function.running or self.depth >= DEPTH or function.calls > INLINES or self.budget <= 0:
            return Unknown(name + "(...)", "it is the result of a function that is not followed further")
        if not final:
            function.calls += 1
        scope = Scope(function.closure)
        self._bind_arguments(scope, function, args, keywords, receiver)
        saved = (self.scope, self.place, self.line, self.returns, self.naming)
        self.scope, self.place, self.returns, self.naming = scope, function.place, [], None
        function.running += 1
        self.depth += 1
        try:
            node = function.node
            if isinstance(node, ast.Lambda):
                return self.eval(node.body)
            self.run(node.body)
            returned = self.returns
        finally:
            function.running -= 1
            self.depth -= 1
            self.scope, self.place, self.line, self.returns, self.naming = saved
        return _returned(returned, name)

    def _bind_arguments(
        self, scope: Scope, function: Function, args: list[Value], keywords: dict[str, Value], receiver: Value
    ) -> None:
        spec = function.node.args
        names = [*spec.posonlyargs, *spec.args]
        values = list(args)
        if receiver is not None and names:
            values.insert(0, receiver)
        outer, self.scope = self.scope, function.closure
        defaults = dict(zip(reversed(names), reversed(spec.defaults), strict=False))
        defaults.update({arg: d for arg, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if d is not None})
        for place, arg in enumerate([*names, *spec.kwonlyargs]):
            if place < len(values) and place < len(names):
                scope.names[arg.arg] = values[place]
            elif arg.arg in keywords:
                scope.names[arg.arg] = keywords[arg.arg]
            elif arg in defaults:
                default = defaults[arg]
                scope.names[arg.arg] = self.eval(default) if isinstance(default, ast.Constant | ast.Name | ast.List | ast.Tuple
                                                                        | ast.Dict | ast.Attribute) else Unknown(
                    arg.arg, "it is a function argument")  # fmt: skip
            else:
                scope.names[arg.arg] = Unknown(arg.arg, "it is a function argument")
        if spec.vararg:
            scope.names[spec.vararg.arg] = list(values[len(names) :]) or Unknown(
                spec.vararg.arg, "it is a function argument"
            )
        if spec.kwarg:
            taken = {arg.arg for arg in (*names, *spec.kwonlyargs)}
            scope.names[spec.kwarg.arg] = {k: v for k, v in keywords.items() if k not in taken}
        self.scope = outer

    def finish(self) -> None:
        """Read the bodies of functions that nothing called, with unknown arguments."""
        place = 0
        while place < len(self.functions) and self.budget > 0:
            function = self.functions[place]
            place += 1
            if function.calls:
                continue
            receiver = Object(function.owner) if function.owner is not None else None
            names = [*function.node.args.posonlyargs, *function.node.args.args]
            if receiver is not None and (not names or names[0].arg not in ("self", "cls")):
                receiver = None
            self.call_function(function, [], {}, receiver, final=True)
