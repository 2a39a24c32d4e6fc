"""What a test says about a name: in `if kind == "a":` the name is "a", and in the `else` it is something else."""

from __future__ import annotations

import ast

from allmend.planning.evaluation.values import Either, Unknown, Value, either, options

Told = tuple[str, list[Value]]
"""A name and the constants that it was compared with."""


def told(test: ast.expr) -> Told | None:
    """The name and the constants of `name == c`, `name in [c, d]`, or several of them joined by `or`."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
        parts = [told(value) for value in test.values]
        names = {part[0] for part in parts if part is not None}
        if None in parts or len(names) != 1:
            return None
        return names.pop(), [value for part in parts if part is not None for value in part[1]]
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return None
    left, right = test.left, test.comparators[0]
    if isinstance(test.ops[0], ast.Eq):
        if isinstance(left, ast.Constant):
            left, right = right, left
        if isinstance(left, ast.Name) and isinstance(right, ast.Constant) and _plain(right.value):
            return left.id, [right.value]
    if (
        isinstance(test.ops[0], ast.In)
        and isinstance(left, ast.Name)
        and isinstance(right, ast.List | ast.Tuple | ast.Set)
    ):
        values = [item.value for item in right.elts if isinstance(item, ast.Constant) and _plain(item.value)]
        if values and len(values) == len(right.elts):
            return left.id, values
    return None


def within(value: Value, given: list[Value], branch: int) -> Value:
    """`value` where the test holds: one of `given`, those first that `value` could be."""
    possible = [option for _, option in options(value)]
    kept = [item for item in given if item in possible] if isinstance(value, Either) else []
    kept = kept or given
    return either([(((branch, at),), item) for at, item in enumerate(kept)])


def without(value: Value, refused: list[Value], name: str) -> Value:
    """`value` where the tests before failed: none of `refused`."""
    if not refused or not any(option in refused for _, option in options(value) if _plain(option)):
        return value
    kept = [(arms, option) for arms, option in options(value) if not (_plain(option) and option in refused)]
    return either(kept) if kept else Unknown(name, "it has another value than those that were tested before")


def _plain(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
