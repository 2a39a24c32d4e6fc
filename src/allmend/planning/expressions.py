"""Evaluating expressions of the constant language: names, strings, containers, attributes, calls."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allmend.notebooks.syntax import MARK
from allmend.planning import callbacks
from allmend.planning.calls import Call, segment
from allmend.planning.containers import Containers
from allmend.planning.names import BUILTINS, WELL_KNOWN
from allmend.planning.operators import Operators
from allmend.planning.pure import MISSING, member_of, pure_call
from allmend.planning.reasons import result_reason
from allmend.planning.values import (
    Arms,
    Bound,
    Class,
    Either,
    Function,
    Made,
    Member,
    Object,
    Symbol,
    Unknown,
    Value,
    agree,
    combine,
    either,
    options,
)  # fmt: skip

if TYPE_CHECKING:
    from allmend.planning.session import Session


_HOLDERS = ("SimpleNamespace", "argparse.Namespace", "EasyDict", "edict", "AttrDict", "DotMap", "box.Box")
"""Classes that only hold what they are given, by attribute."""


class Expressions(Operators, Containers):
    """The evaluator of expressions. `eval` never raises for odd input and returns a value for everything."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._evaluators: dict[type[ast.AST], Callable[[Any], Value]] = {
            ast.Constant: self._constant, ast.Name: self._name, ast.Attribute: self._attribute, ast.Call: self._call,
            ast.JoinedStr: self._fstring, ast.BinOp: self._binary, ast.List: self._list, ast.Tuple: self._tuple,
            ast.Set: self._list, ast.Dict: self._dict, ast.Subscript: self._subscript, ast.IfExp: self._conditional,
            ast.BoolOp: self._boolean, ast.Compare: self._compare, ast.UnaryOp: self._unary, ast.Lambda: self._lambda,
            ast.ListComp: self._comprehension, ast.SetComp: self._comprehension, ast.GeneratorExp: self._comprehension,
            ast.DictComp: self._dict_comprehension, ast.NamedExpr: self._walrus, ast.Await: self._inner,
            ast.Starred: self._inner, ast.FormattedValue: self._inner, ast.YieldFrom: self._inner, ast.Yield: self._yield,
            ast.Slice: self._slice,
        }  # fmt: skip

    def eval(self, node: ast.expr) -> Value:
        """The value of an expression; effects of calls inside it are recorded on the way."""
        self.budget -= 1
        evaluator = self._evaluators.get(type(node))
        if evaluator is None or self.budget <= 0 or self.nesting > 90:
            return Unknown(segment(self.place, node), "it is too deep or too long to follow")
        self.nesting += 1
        try:
            return evaluator(node)
        finally:
            self.nesting -= 1

    # -- names ------------------------------------------------------------------------------------------------------

    def _constant(self, node: ast.Constant) -> Value:
        return node.value

    def _name(self, node: ast.Name) -> Value:
        value = self.look_up(node.id)
        if value is not MISSING:
            return value
        if node.id in BUILTINS:
            return Symbol(f"builtins.{node.id}")
        if self.stars:
            star = self.session.star(self.stars, node.id)
            if star:
                return Symbol(star)
        if node.id in WELL_KNOWN:
            return Symbol(WELL_KNOWN[node.id])
        if node.id == "__file__":
            return Unknown("__file__", "a notebook has no file name of its own")
        return Unknown(node.id, "the name is not set in the notebook", f"?{node.id}")

    def _attribute(self, node: ast.Attribute) -> Value:
        owner = self.eval(node.value)
        return self.attribute(owner, node.attr, node)

    def attribute(self, owner: Value, name: str, node: ast.AST) -> Value:
        """`owner.name`."""
        if isinstance(owner, Symbol):
            return self.session.symbol(f"{owner.path}.{name}")
        if isinstance(owner, Object):
            if name in owner.attributes:
                return owner.attributes[name]
            found = owner.of.find(name)
            if isinstance(found, Function):
                return Bound(found, owner)
            if found is not None:
                return found
            base = next((b for b in owner.of.bases if isinstance(b, Symbol | Made)), None)
            return Member(f"{base.path if base else '?'}().{name}", owner)
        if isinstance(owner, Class):
            found = owner.find(name)
            if found is None:
                return Member(f"?{owner.name}.{name}", owner)
            return Bound(found, owner) if isinstance(found, Function) and _takes_class(found) else found
        if isinstance(owner, Made):
            if name in owner.attributes:
                return owner.attributes[name]
            return Member(f"{owner.path}.{name}", owner)
        if isinstance(owner, Member):
            return Member(f"{owner.path}.{name}", owner.receiver)
        if isinstance(owner, Unknown):
            return Member(f"{owner.path}.{name}", owner)
        if isinstance(owner, Either):
            return combine([owner], lambda row: self.attribute(row[0], name, node))
        return member_of(owner, name)

    # -- strings and operators ----------------------------------------------------------------------------------------

    # -- containers ---------------------------------------------------------------------------------------------------

    # -- the rest ---------------------------------------------------------------------------------------------------

    def _walrus(self, node: ast.NamedExpr) -> Value:
        value = self.eval(node.value)
        self.bind(node.target.id, value)
        return value

    def _inner(self, node: Any) -> Value:
        return self.eval(node.value)

    def _yield(self, node: ast.Yield) -> Value:
        if node.value is not None:
            self.eval(node.value)
        return self.unknown(node, "it is sent into a generator")

    def _lambda(self, node: ast.Lambda) -> Value:
        return self.session.python.define(node)

    # -- calls ------------------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Value:
        function = node.func
        if isinstance(function, ast.Name) and function.id == MARK:
            return self._special(node)
        naming, self.naming = self.naming, None
        callee = self.eval(function)
        args: list[Value] = []
        keywords: dict[str, Value] = {}
        keyed = isinstance(function, ast.Attribute) and function.attr in ("setdefault", "putenv") and len(node.args) > 1
        for place, arg in enumerate(node.args):
            if keyed and place == 1:
                self.naming = ast.Subscript(value=function, slice=node.args[0])
            value = self.eval(arg)
            self.naming = None
            if isinstance(arg, ast.Starred) and isinstance(value, list | tuple):
                args.extend(value)
            else:
                args.append(value)
        for keyword in node.keywords:
            self.naming = ast.Name(id=keyword.arg) if keyword.arg else None
            value = self.eval(keyword.value)
            self.naming = None
            if keyword.arg:
                keywords[keyword.arg] = value
            elif isinstance(value, dict):
                keywords.update({k: v for k, v in value.items() if isinstance(k, str)})
        self.line = node.lineno
        name = _name_of(naming, self)
        chosen = options(callee)
        if len(chosen) == 1:
            return self._invoke(chosen[0][1], node, args, keywords, name)
        results: list[tuple[Arms, Value]] = []
        plain = all(
            isinstance(option, Member) and isinstance(option.receiver, str | dict | list) for _, option in chosen
        )
        for arms, option in chosen if plain else chosen[:6]:
            for more, result in options(self._invoke(option, node, args, keywords, name)):
                both = agree(arms, more)
                if both is not None:
                    results.append((both, result))
        return either(results) if results else None

    def _special(self, node: ast.Call) -> Value:
        number = node.args[0]
        self.line = node.lineno
        if isinstance(number, ast.Constant) and isinstance(number.value, int):
            return self.session.on_special(self.place, number.value)
        return None

    def _invoke(
        self, callee: Value, node: ast.Call, args: list[Value], keywords: dict[str, Value], naming: str | None
    ) -> Value:
        python = self.session.python
        if isinstance(callee, Function):
            return python.call_function(callee, args, keywords)
        if isinstance(callee, Bound):
            return python.call_function(callee.function, args, keywords, callee.receiver)
        if isinstance(callee, Class):
            made = Object(callee)
            start = callee.find("__init__")
            if isinstance(start, Function):
                python.call_function(start, args, keywords, made)
            else:
                made.attributes.update(zip(callee.fields, args, strict=False))
                made.attributes.update(keywords)
                base = next((b for b in callee.bases if isinstance(b, Symbol)), None)
                if base is not None:
                    self.session.on_call(Call(base.path, node, args, keywords, None, naming))
            return made
        if isinstance(callee, Object):
            called = callee.of.find("__call__") or callee.of.find("forward")
            return python.call_function(called, args, keywords, callee) if isinstance(called, Function) else None
        if isinstance(callee, Made) and callee.path in callbacks.LATER and callee.args:
            inner = callee.args[0]
            if isinstance(inner, Function | Bound):
                return callbacks.partial(self, callee, args, keywords)
            return self._invoke(inner, node, [*callee.args[1:], *args], {**callee.keywords, **keywords}, naming)
        receiver = callee.receiver if isinstance(callee, Member) else None
        path = callee.path if isinstance(callee, Symbol | Member | Made | Unknown) else "?"
        if isinstance(callee, Made | Unknown):
            receiver = callee
        call = Call(path, node, args, keywords, receiver, naming)
        callbacks.follow(self, call)
        value = pure_call(self, call)
        if value is not MISSING:
            return value
        answer = self.session.on_call(call)
        if answer is not MISSING:
            return answer
        reason = result_reason(call)
        kept = dict(keywords) if path.endswith(_HOLDERS) else {}
        return Made(path + "()", args, keywords, receiver, kept, segment(self.place, node), reason)


def _name_of(naming: ast.expr | None, python: Expressions) -> str | None:
    """The bare name an assignment gives its value: a variable, an attribute, or a constant key."""
    if isinstance(naming, ast.Name):
        return naming.id
    if isinstance(naming, ast.Attribute):
        return naming.attr
    if (
        isinstance(naming, ast.Subscript)
        and isinstance(naming.slice, ast.Constant)
        and isinstance(naming.slice.value, str)
    ):
        return naming.slice.value
    return None


def _takes_class(function: Function) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "classmethod" for d in getattr(function.node, "decorator_list", []))
