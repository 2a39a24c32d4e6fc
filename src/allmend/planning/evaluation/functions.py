"""Functions of the notebook's own: remembered where they stand, followed when they are called."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from allmend.planning.evaluation.scope import Scope
from allmend.planning.evaluation.values import Class, Either, Function, Object, Unknown, Value

if TYPE_CHECKING:
    from allmend.planning.evaluation.python import Python

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


def define(
    python: Python, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, owner: Class | None = None
) -> Function:
    """A function value for `node`, remembered so that its body is read even if nothing calls it."""
    name = getattr(node, "name", "lambda")
    function = Function(name, node, python.place, python.scope, owner)
    if len(python.functions) < 5000:
        python.functions.append(function)
    return function


def call_function(
    python: Python,
    function: Function,
    args: list[Value],
    keywords: dict[str, Value],
    receiver: Value = None,
    *,
    final: bool = False,
) -> Value:
    """Follow the body of `function` with these arguments; what it returns."""
    name = function.name
    if function.running or python.depth >= DEPTH or function.calls > INLINES or python.budget <= 0:
        return Unknown(name + "(...)", "it is the result of a function that is not followed further")
    if not final:
        function.calls += 1
    scope = Scope(function.closure)
    _bind_arguments(python, scope, function, args, keywords, receiver)
    saved = (python.scope, python.place, python.line, python.returns, python.naming)
    python.scope, python.place, python.returns, python.naming = scope, function.place, [], None
    function.running += 1
    python.depth += 1
    try:
        node = function.node
        if isinstance(node, ast.Lambda):
            return python.eval(node.body)
        python.run(node.body)
        returned = python.returns
    finally:
        function.running -= 1
        python.depth -= 1
        python.scope, python.place, python.line, python.returns, python.naming = saved
    return _returned(returned, name)


def _bind_arguments(
    python: Python, scope: Scope, function: Function, args: list[Value], keywords: dict[str, Value], receiver: Value
) -> None:
    spec = function.node.args
    names = [*spec.posonlyargs, *spec.args]
    values = list(args)
    if receiver is not None and names:
        values.insert(0, receiver)
    outer, python.scope = python.scope, function.closure
    defaults = dict(zip(reversed(names), reversed(spec.defaults), strict=False))
    defaults.update({arg: d for arg, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if d is not None})
    for place, arg in enumerate([*names, *spec.kwonlyargs]):
        if place < len(values) and place < len(names):
            scope.names[arg.arg] = values[place]
        elif arg.arg in keywords:
            scope.names[arg.arg] = keywords[arg.arg]
        elif arg in defaults:
            default = defaults[arg]
            scope.names[arg.arg] = python.eval(default) if isinstance(default, ast.Constant | ast.Name | ast.List | ast.Tuple
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
    python.scope = outer


def read_uncalled(python: Python) -> None:
    """Read the bodies of functions that nothing called, with unknown arguments."""
    place = 0
    while place < len(python.functions) and python.budget > 0:
        function = python.functions[place]
        place += 1
        if function.calls:
            continue
        receiver = Object(function.owner) if function.owner is not None else None
        names = [*function.node.args.posonlyargs, *function.node.args.args]
        if receiver is not None and (not names or names[0].arg not in ("self", "cls")):
            receiver = None
        call_function(python, function, [], {}, receiver, final=True)
