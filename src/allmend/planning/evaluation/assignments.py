"""Assignments: to names, attributes, items and patterns of them; a form's field holds any of its choices."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allmend.notebooks.parameters import choices_of
from allmend.planning.evaluation.calls import segment
from allmend.planning.evaluation.values import Class, Either, Made, Object, Symbol, Unknown, Value, either

if TYPE_CHECKING:
    from allmend.planning.evaluation.python import Python


def assign(python: Python, target: ast.expr, value: Value, source: ast.expr) -> None:
    """Bind `target` to `value`."""
    if isinstance(target, ast.Name):
        if isinstance(value, Unknown) and value.path == "?" and value.source and len(value.source) > 60:
            value = Unknown(target.id, value.reason)
        if value == "" and isinstance(value, str) and _form_line(python, source):
            value = Unknown(target.id, "it is a form field that is left empty")
        python.bind(target.id, value)
        python.session.observer.on_assign(target.id, value, source)
    elif isinstance(target, ast.Tuple | ast.List):
        _unpack(python, target, value, source)
    elif isinstance(target, ast.Attribute):
        _set_attribute(python, target, value, source)
    elif isinstance(target, ast.Subscript):
        _set_item(python, target, value, source)
    elif isinstance(target, ast.Starred):
        assign(python, target.value, value, source)


def _unpack(python: Python, target: ast.Tuple | ast.List, value: Value, source: ast.expr) -> None:
    names = target.elts
    if isinstance(value, Either) and all(
        isinstance(option, list | tuple) and len(option) == len(names) for _, option in value.options
    ):
        for place, name in enumerate(names):
            found = [(arms, option[place]) for arms, option in value.options]
            assign(python, name, either([pair for pair in found if pair[1] is not None] or found), source)
        return
    starred = any(isinstance(name, ast.Starred) for name in names)
    if isinstance(value, list | tuple) and len(value) == len(names) and not starred:
        inner = source.elts if isinstance(source, ast.Tuple | ast.List) and len(source.elts) == len(names) else None
        for place, name in enumerate(names):
            assign(python, name, value[place], inner[place] if inner else source)
        return
    for name in names:
        if isinstance(value, Made | Unknown):
            assign(python, name, value, source)
        else:
            assign(
                python,
                name,
                Unknown(segment(python.place, name), "it is unpacked from a value that is not known"),
                source,
            )


def _set_attribute(python: Python, target: ast.Attribute, value: Value, source: ast.expr) -> None:
    owner = python.eval(target.value)
    if isinstance(owner, Object | Made):
        python.journal.set(owner.attributes, target.attr, value)
    elif isinstance(owner, Class):
        owner.members[target.attr] = value
    elif isinstance(owner, Symbol):
        python.session.observer.on_set_attribute(f"{owner.path}.{target.attr}", value, source)


def _set_item(python: Python, target: ast.Subscript, value: Value, source: ast.expr) -> None:
    owner = python.eval(target.value)
    key = python.eval(target.slice)
    if isinstance(owner, dict):
        if isinstance(key, str | int | float | bool | tuple) and len(owner) < 5000 and _hashable(key):
            owner[key] = value
    elif isinstance(owner, list):
        if isinstance(key, int) and -len(owner) <= key < len(owner):
            owner[key] = value
    elif isinstance(owner, Symbol):
        python.session.observer.on_set_item(owner.path, key, value, source, target.slice)


def _assign(python: Python, node: ast.Assign) -> None:
    python.naming = node.targets[0]
    value = _chosen(python, python.eval(node.value), node.value)
    python.naming = None
    for target in node.targets:
        assign(python, target, value, node.value)


def _annotated(python: Python, node: ast.AnnAssign) -> None:
    if node.value is not None:
        python.naming = node.target
        value = _chosen(python, python.eval(node.value), node.value)
        python.naming = None
        assign(python, node.target, value, node.value)


def _augmented(python: Python, node: ast.AugAssign) -> None:
    load = ast.copy_location(_loaded(node.target), node.target)
    operation = ast.copy_location(ast.BinOp(left=load, op=node.op, right=node.value), node)
    assign(python, node.target, python.eval(operation), node.value)


def _delete(python: Python, node: ast.Delete) -> None:
    for target in node.targets:
        if isinstance(target, ast.Name):
            python.scope.names.pop(target.id, None)


def _chosen(python: Python, value: Value, source: ast.expr) -> Value:
    """A dropdown's value is any of its choices, the default first."""
    if not isinstance(source, ast.Constant) or not _form_line(python, source):
        return value
    line = source.end_lineno or 0
    offered = choices_of(python.place.lines[line - 1])
    if not offered:
        return value
    kept = [value, *(item for item in offered if item != value and isinstance(item, str | int | float | bool))]
    branch = 3_000_000 + python.place.cell * 10_000 + line
    return either([(((branch, at),), item) for at, item in enumerate(kept) if item != "" or at == 0])


def _form_line(python: Python, source: ast.expr) -> bool:
    line = getattr(source, "end_lineno", 0) or 0
    return 0 < line <= len(python.place.lines) and "@param" in python.place.lines[line - 1]


def _loaded(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Name):
        return ast.Name(id=node.id, ctx=ast.Load())
    if isinstance(node, ast.Attribute):
        return ast.Attribute(value=node.value, attr=node.attr, ctx=ast.Load())
    if isinstance(node, ast.Subscript):
        return ast.Subscript(value=node.value, slice=node.slice, ctx=ast.Load())
    return node


def _hashable(key: Value) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


STATEMENTS: dict[type[ast.stmt], Callable[[Python, Any], None]] = {
    ast.Assign: _assign, ast.AnnAssign: _annotated, ast.AugAssign: _augmented, ast.Delete: _delete,
}  # fmt: skip
