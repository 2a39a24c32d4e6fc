"""Following Python statements: assignments, branches, loops over literals, functions called with literals.

Nothing is executed. Every visit of a node costs one unit of a budget; when it is spent, what is left is named as
unread. Values are those of `values.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from allmend.notebooks.parameters import choices_of
from allmend.planning.blocks import Blocks
from allmend.planning.calls import segment
from allmend.planning.scope import Scope
from allmend.planning.values import (
    Bound,
    Class,
    Either,
    Made,
    Member,
    Object,
    Place,
    Symbol,
    Unknown,
    Value,
    either,
)

if TYPE_CHECKING:
    from allmend.planning.session import Session


class Python(Blocks):
    """Follows the statements of a notebook in order."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._handlers: dict[type[ast.AST], Callable[..., None]] = {
            ast.Expr: self._expr, ast.Assign: self._assign, ast.AnnAssign: self._annotated, ast.AugAssign: self._augmented,
            ast.If: self._if, ast.For: self._for, ast.AsyncFor: self._for, ast.While: self._while, ast.With: self._with,
            ast.AsyncWith: self._with, ast.Try: self._try, ast.TryStar: self._try, ast.FunctionDef: self._def,
            ast.AsyncFunctionDef: self._def, ast.ClassDef: self._class, ast.Import: self._import,
            ast.ImportFrom: self._import_from, ast.Return: self._return, ast.Delete: self._delete,
            ast.Global: self._global, ast.Nonlocal: self._nothing, ast.Pass: self._nothing, ast.Assert: self._assert,
            ast.Raise: self._raise, ast.Match: self._match, ast.Break: self._nothing, ast.Continue: self._nothing,
        }  # fmt: skip

    def run(self, body: Iterable[ast.stmt]) -> None:
        """Follow `body` in the current scope."""
        for statement in body:
            if self.budget <= 0:
                return
            self.budget -= 1
            handler = self._handlers.get(type(statement))
            if handler is not None:
                self.line = statement.lineno
                handler(statement)

    # -- simple statements ------------------------------------------------------------------------------------------

    def _nothing(self, node: ast.stmt) -> None:
        """Nothing happens."""

    def _expr(self, node: ast.Expr) -> None:
        self.eval(node.value)

    def _assert(self, node: ast.Assert) -> None:
        self.eval(node.test)

    def _raise(self, node: ast.Raise) -> None:
        if node.exc is not None:
            self.eval(node.exc)

    def _return(self, node: ast.Return) -> None:
        value = self.eval(node.value) if node.value is not None else None
        if self.returns is not None:
            self.returns.append(value)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.scope.names.pop(target.id, None)

    def _global(self, node: ast.Global) -> None:
        self.scope.declared_global.update(node.names)

    def _assign(self, node: ast.Assign) -> None:
        self.naming = node.targets[0]
        value = self._chosen(self.eval(node.value), node.value)
        self.naming = None
        for target in node.targets:
            self.assign(target, value, node.value)

    def _annotated(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.naming = node.target
            value = self._chosen(self.eval(node.value), node.value)
            self.naming = None
            self.assign(node.target, value, node.value)

    def _augmented(self, node: ast.AugAssign) -> None:
        load = ast.copy_location(_loaded(node.target), node.target)
        operation = ast.copy_location(ast.BinOp(left=load, op=node.op, right=node.value), node)
        self.assign(node.target, self.eval(operation), node.value)

    def assign(self, target: ast.expr, value: Value, source: ast.expr) -> None:
        """Bind `target` to `value`."""
        if isinstance(target, ast.Name):
            if isinstance(value, Unknown) and value.path == "?" and value.source and len(value.source) > 60:
                value = Unknown(target.id, value.reason)
            if value == "" and isinstance(value, str) and self._form_line(source):
                value = Unknown(target.id, "it is a form field that is left empty")
            self.bind(target.id, value)
            self.session.on_assign(target.id, value, source)
        elif isinstance(target, ast.Tuple | ast.List):
            self._unpack(target, value, source)
        elif isinstance(target, ast.Attribute):
            self._set_attribute(target, value, source)
        elif isinstance(target, ast.Subscript):
            self._set_item(target, value, source)
        elif isinstance(target, ast.Starred):
            self.assign(target.value, value, source)

    def _chosen(self, value: Value, source: ast.expr) -> Value:
        """A dropdown's value is any of its choices, the default first."""
        if not isinstance(source, ast.Constant) or not self._form_line(source):
            return value
        line = source.end_lineno or 0
        offered = choices_of(self.place.lines[line - 1])
        if not offered:
            return value
        kept = [value, *(item for item in offered if item != value and isinstance(item, str | int | float | bool))]
        branch = 3_000_000 + self.place.cell * 10_000 + line
        return either([(((branch, at),), item) for at, item in enumerate(kept) if item != "" or at == 0])

    def _form_line(self, source: ast.expr) -> bool:
        line = getattr(source, "end_lineno", 0) or 0
        return 0 < line <= len(self.place.lines) and "@param" in self.place.lines[line - 1]

    def _unpack(self, target: ast.Tuple | ast.List, value: Value, source: ast.expr) -> None:
        names = target.elts
        if isinstance(value, Either) and all(
            isinstance(option, list | tuple) and len(option) == len(names) for _, option in value.options
        ):
            for place, name in enumerate(names):
                found = [(arms, option[place]) for arms, option in value.options]
                self.assign(name, either([pair for pair in found if pair[1] is not None] or found), source)
            return
        starred = any(isinstance(name, ast.Starred) for name in names)
        if isinstance(value, list | tuple) and len(value) == len(names) and not starred:
            inner = source.elts if isinstance(source, ast.Tuple | ast.List) and len(source.elts) == len(names) else None
            for place, name in enumerate(names):
                self.assign(name, value[place], inner[place] if inner else source)
            return
        for name in names:
            if isinstance(value, Made | Unknown):
                self.assign(name, value, source)
            else:
                self.assign(
                    name, Unknown(segment(self.place, name), "it is unpacked from a value that is not known"), source
                )

    def _set_attribute(self, target: ast.Attribute, value: Value, source: ast.expr) -> None:
        owner = self.eval(target.value)
        if isinstance(owner, Object | Made):
            self.journal.set(owner.attributes, target.attr, value)
        elif isinstance(owner, Class):
            owner.members[target.attr] = value
        elif isinstance(owner, Symbol):
            self.session.on_set_attribute(f"{owner.path}.{target.attr}", value, source)

    def _set_item(self, target: ast.Subscript, value: Value, source: ast.expr) -> None:
        owner = self.eval(target.value)
        key = self.eval(target.slice)
        if isinstance(owner, dict):
            if isinstance(key, str | int | float | bool | tuple) and len(owner) < 5000 and _hashable(key):
                owner[key] = value
        elif isinstance(owner, list):
            if isinstance(key, int) and -len(owner) <= key < len(owner):
                owner[key] = value
        elif isinstance(owner, Symbol):
            self.session.on_set_item(owner.path, key, value, source, target.slice)

    # -- blocks -----------------------------------------------------------------------------------------------------

    # -- definitions ------------------------------------------------------------------------------------------------

    def _def(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.eval(decorator)
        for default in (*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)):
            if not isinstance(default, ast.Constant):
                self.eval(default)
        self.bind(node.name, self.define(node))

    def _class(self, node: ast.ClassDef) -> None:
        made = Class(node.name, [self.eval(base) for base in node.bases])
        for keyword in node.keywords:
            self.eval(keyword.value)
        for decorator in node.decorator_list:
            self.eval(decorator)
        self.bind(node.name, made)
        outer, self.scope = self.scope, Scope(self.scope)
        try:
            for statement in node.body:
                if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                    for decorator in statement.decorator_list:
                        self.eval(decorator)
                    made.members[statement.name] = self.define(statement, made)
                else:
                    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                        made.fields.append(statement.target.id)
                    self.run([statement])
            for name, value in self.scope.names.items():
                made.members.setdefault(name, value)
        finally:
            self.scope = outer

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.session.on_import(alias.name)
            if alias.asname:
                self.bind(alias.asname, Symbol(alias.name))
            else:
                top = alias.name.partition(".")[0]
                self.bind(top, Symbol(top))

    def _import_from(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        self.session.on_import(module)
        for alias in node.names:
            if alias.name == "*":
                if module not in self.stars:
                    self.stars.append(module)
            else:
                self.bind(alias.asname or alias.name, Symbol(f"{module}.{alias.name}"))

    # -- calls of the notebook's own functions ------------------------------------------------------------------------


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


__all__ = ["Bound", "Member", "Place", "Python"]
