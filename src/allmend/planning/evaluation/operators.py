"""Operators of the constant language: joining, formatting, arithmetic, conditions."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allmend.planning.evaluation.values import (
    Made,
    PathText,
    Unknown,
    Value,
    combine,
    either,
    has_hole,
    options,
)  # fmt: skip

if TYPE_CHECKING:
    from allmend.planning.evaluation.python import Python

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip


_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.Gt: operator.gt, ast.LtE: operator.le,
    ast.GtE: operator.ge,
}  # fmt: skip


def _number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _comparable(value: Value) -> bool:
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and not has_hole(value))


def _why(*values: Value) -> str:
    for value in values:
        if isinstance(value, Unknown | Made):
            return value.reason
    return "it is worked out while the notebook runs"


def _fstring(python: Python, node: ast.JoinedStr) -> Value:
    values: list[Value] = []
    formats: list[str] = []
    for part in node.values:
        if isinstance(part, ast.Constant):
            values.append(part.value)
            formats.append("")
        elif isinstance(part, ast.FormattedValue):
            values.append(python.settle(python.eval(part.value), part.value))
            spec = python.eval(part.format_spec) if part.format_spec is not None else ""
            formats.append(spec if isinstance(spec, str) and not has_hole(spec) else "")

    def join(row: list[Value]) -> Value:
        pieces = []
        for value, spec in zip(row, formats, strict=True):
            if spec and isinstance(value, int | float | str) and len(spec) < 8 and "9" * 3 not in spec:
                try:
                    pieces.append(format(value, spec))
                    continue
                except (ValueError, TypeError):
                    pass
            pieces.append(python.holes.text(value))
        return "".join(pieces)[:200_000]

    return combine(values, join)


def _binary(python: Python, node: ast.BinOp) -> Value:
    left, right = python.eval(node.left), python.eval(node.right)
    return combine([left, right], lambda row: _operate(python, node, row[0], row[1]))


def _operate(python: Python, node: ast.BinOp, left: Value, right: Value) -> Value:
    op = type(node.op)
    if op is ast.Add and (isinstance(left, str) or isinstance(right, str)):
        return (
            python.holes.text(python.settle(left, node.left)) + python.holes.text(python.settle(right, node.right))
        )[:200_000]
    if op is ast.Div and (isinstance(left, PathText) or isinstance(right, PathText)):
        import posixpath

        a = python.holes.text(python.settle(left, node.left))
        b = python.holes.text(python.settle(right, node.right))
        return PathText(posixpath.join(a, b))
    if op is ast.Div and (isinstance(left, str) or isinstance(right, str)):
        return PathText(
            f"{python.holes.text(python.settle(left, node.left))}/{python.holes.text(python.settle(right, node.right))}"
        )
    if op is ast.Mod and isinstance(left, str):
        return _percent(python, left, right, node)
    if op is ast.Add and isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return [*left, *right] if len(left) + len(right) < 5000 else python.unknown(node, "the list is too long")
    if op is ast.Mult and isinstance(left, str | list) and isinstance(right, int):
        return left * right if len(left) * max(right, 0) < 10_000 else python.unknown(node, "it is too long")
    function = _OPERATORS.get(op)
    if function is not None and _number(left) and _number(right):
        try:
            return function(left, right)
        except (ArithmeticError, ValueError):
            pass
    return python.unknown(node, _why(left, right))


def _percent(python: Python, left: str, right: Value, node: ast.BinOp) -> Value:
    nodes = node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
    values = list(right) if isinstance(right, tuple | list) and isinstance(node.right, ast.Tuple) else [right]
    if isinstance(right, dict):
        texts: Any = {k: python.holes.text(v) for k, v in right.items()}
    else:
        texts = tuple(
            v if _number(v) else python.holes.text(python.settle(v, nodes[min(i, len(nodes) - 1)]))
            for i, v in enumerate(values)
        )
    if len(left) < 20_000 and not any(width in left for width in ("%9", "%*")):
        try:
            return left % texts
        except (ValueError, TypeError, KeyError, OverflowError):
            pass
    return python.unknown(node, _why(left, right))


def _boolean(python: Python, node: ast.BoolOp) -> Value:
    values = [python.eval(value) for value in node.values]
    if isinstance(node.op, ast.Or) and not isinstance(values[0], bool):
        # `given or "default"`: either may be used.
        kept = [value for value in values if value not in (None, "") and not isinstance(value, bool)]
        if len(kept) == 1:
            return kept[0]
        if kept and isinstance(kept[0], str):
            return kept[0]
    return python.unknown(node, "it is a condition")


def _compare(python: Python, node: ast.Compare) -> Value:
    left = python.eval(node.left)
    rights = [python.eval(comparator) for comparator in node.comparators]
    function = _COMPARE.get(type(node.ops[0]))
    if len(rights) == 1 and function and _comparable(left) and _comparable(rights[0]):
        try:
            return bool(function(left, rights[0]))
        except TypeError:
            pass
    return python.unknown(node, "it is a condition")


def _unary(python: Python, node: ast.UnaryOp) -> Value:
    value = python.eval(node.operand)
    if isinstance(node.op, ast.USub) and _number(value):
        return -value
    if isinstance(node.op, ast.Not) and isinstance(value, bool):
        return not value
    return python.unknown(node, "it is a condition")


def _conditional(python: Python, node: ast.IfExp) -> Value:
    python.eval(node.test)
    first, second = python.eval(node.body), python.eval(node.orelse)
    branch = 1_000_000 + (id(node) & 0xFFFFFFF)
    found: list[tuple[Any, Value]] = []
    for arm, value in ((0, first), (1, second)):
        found.extend((((branch, arm), *arms), option) for arms, option in options(value))
    full = [(arms, value) for arms, value in found if value is not None]
    return either(full or found)


EXPRESSIONS: dict[type[ast.expr], Callable[[Python, Any], Value]] = {
    ast.JoinedStr: _fstring, ast.BinOp: _binary, ast.BoolOp: _boolean, ast.Compare: _compare, ast.UnaryOp: _unary,
    ast.IfExp: _conditional,
}  # fmt: skip
