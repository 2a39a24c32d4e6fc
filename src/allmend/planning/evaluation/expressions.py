"""Names, attributes and the small expressions of the constant language."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allmend.planning.evaluation.attributes import attribute
from allmend.planning.evaluation.functions import define
from allmend.planning.evaluation.names import BUILTINS, WELL_KNOWN
from allmend.planning.evaluation.values import MISSING, Symbol, Unknown, Value

if TYPE_CHECKING:
    from allmend.planning.evaluation.python import Python


def _constant(python: Python, node: ast.Constant) -> Value:
    return node.value


def _name(python: Python, node: ast.Name) -> Value:
    value = python.look_up(node.id)
    if value is not MISSING:
        return value
    if node.id in BUILTINS:
        return Symbol(f"builtins.{node.id}")
    if python.stars:
        star = python.session.star(python.stars, node.id)
        if star:
            return Symbol(star)
    if node.id in WELL_KNOWN:
        return Symbol(WELL_KNOWN[node.id])
    if node.id == "__file__":
        return Unknown("__file__", "a notebook has no file name of its own")
    return Unknown(node.id, "the name is not set in the notebook", f"?{node.id}")


def _attribute(python: Python, node: ast.Attribute) -> Value:
    owner = python.eval(node.value)
    return attribute(python, owner, node.attr)


def _walrus(python: Python, node: ast.NamedExpr) -> Value:
    value = python.eval(node.value)
    python.bind(node.target.id, value)
    return value


def _inner(python: Python, node: Any) -> Value:
    return python.eval(node.value)


def _yield(python: Python, node: ast.Yield) -> Value:
    if node.value is not None:
        python.eval(node.value)
    return python.unknown(node, "it is sent into a generator")


def _lambda(python: Python, node: ast.Lambda) -> Value:
    return define(python, node)


EXPRESSIONS: dict[type[ast.expr], Callable[[Python, Any], Value]] = {
    ast.Constant: _constant, ast.Name: _name, ast.Attribute: _attribute, ast.NamedExpr: _walrus, ast.Lambda: _lambda,
    ast.Await: _inner, ast.Starred: _inner, ast.FormattedValue: _inner, ast.YieldFrom: _inner, ast.Yield: _yield,
}  # fmt: skip
