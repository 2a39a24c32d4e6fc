"""Definitions and imports: what gives names to functions, classes and modules."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allmend.planning.evaluation.functions import define
from allmend.planning.evaluation.scope import Scope
from allmend.planning.evaluation.values import Class, Symbol

if TYPE_CHECKING:
    from allmend.planning.evaluation.python import Python


def _def(python: Python, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    for decorator in node.decorator_list:
        python.eval(decorator)
    for default in (*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)):
        if not isinstance(default, ast.Constant):
            python.eval(default)
    python.bind(node.name, define(python, node))


def _class(python: Python, node: ast.ClassDef) -> None:
    made = Class(node.name, [python.eval(base) for base in node.bases])
    for keyword in node.keywords:
        python.eval(keyword.value)
    for decorator in node.decorator_list:
        python.eval(decorator)
    python.bind(node.name, made)
    outer, python.scope = python.scope, Scope(python.scope)
    try:
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                for decorator in statement.decorator_list:
                    python.eval(decorator)
                made.members[statement.name] = define(python, statement, made)
            else:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    made.fields.append(statement.target.id)
                python.run([statement])
        for name, value in python.scope.names.items():
            made.members.setdefault(name, value)
    finally:
        python.scope = outer


def _import(python: Python, node: ast.Import) -> None:
    for alias in node.names:
        python.session.observer.on_import(alias.name)
        if alias.asname:
            python.bind(alias.asname, Symbol(alias.name))
        else:
            top = alias.name.partition(".")[0]
            python.bind(top, Symbol(top))


def _import_from(python: Python, node: ast.ImportFrom) -> None:
    module = "." * node.level + (node.module or "")
    python.session.observer.on_import(module)
    for alias in node.names:
        if alias.name == "*":
            if module not in python.stars:
                python.stars.append(module)
        else:
            python.bind(alias.asname or alias.name, Symbol(f"{module}.{alias.name}"))


def _global(python: Python, node: ast.Global) -> None:
    python.scope.declared_global.update(node.names)


STATEMENTS: dict[type[ast.stmt], Callable[[Python, Any], None]] = {
    ast.FunctionDef: _def, ast.AsyncFunctionDef: _def, ast.ClassDef: _class, ast.Import: _import,
    ast.ImportFrom: _import_from, ast.Global: _global,
}  # fmt: skip
