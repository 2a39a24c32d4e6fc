"""Calls: of the notebook's own functions and classes, of what can be worked out, and of libraries."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allmend.notebooks.syntax import MARK
from allmend.planning.evaluation import callbacks
from allmend.planning.evaluation.calls import Call, segment
from allmend.planning.evaluation.functions import call_function
from allmend.planning.evaluation.pure import pure_call
from allmend.planning.evaluation.reasons import result_reason
from allmend.planning.evaluation.values import (
    MISSING,
    Arms,
    Bound,
    Class,
    Function,
    Made,
    Member,
    Object,
    Symbol,
    Unknown,
    Value,
    agree,
    either,
    options,
)

if TYPE_CHECKING:
    from allmend.planning.evaluation.python import Python

_HOLDERS = ("SimpleNamespace", "argparse.Namespace", "EasyDict", "edict", "AttrDict", "DotMap", "box.Box")
"""Classes that only hold what they are given, by attribute."""


def _call(python: Python, node: ast.Call) -> Value:
    function = node.func
    if isinstance(function, ast.Name) and function.id == MARK:
        return _special(python, node)
    naming, python.naming = python.naming, None
    callee = python.eval(function)
    args: list[Value] = []
    keywords: dict[str, Value] = {}
    keyed = isinstance(function, ast.Attribute) and function.attr in ("setdefault", "putenv") and len(node.args) > 1
    for place, arg in enumerate(node.args):
        if keyed and place == 1:
            python.naming = ast.Subscript(value=function, slice=node.args[0])
        value = python.eval(arg)
        python.naming = None
        if isinstance(arg, ast.Starred) and isinstance(value, list | tuple):
            args.extend(value)
        else:
            args.append(value)
    for keyword in node.keywords:
        python.naming = ast.Name(id=keyword.arg) if keyword.arg else None
        value = python.eval(keyword.value)
        python.naming = None
        if keyword.arg:
            keywords[keyword.arg] = value
        elif isinstance(value, dict):
            keywords.update({k: v for k, v in value.items() if isinstance(k, str)})
    python.line = node.lineno
    name = _name_of(naming)
    chosen = options(callee)
    if len(chosen) == 1:
        return _invoke(python, chosen[0][1], node, args, keywords, name)
    results: list[tuple[Arms, Value]] = []
    plain = all(isinstance(option, Member) and isinstance(option.receiver, str | dict | list) for _, option in chosen)
    for arms, option in chosen if plain else chosen[:6]:
        for more, result in options(_invoke(python, option, node, args, keywords, name)):
            both = agree(arms, more)
            if both is not None:
                results.append((both, result))
    return either(results) if results else None


def _special(python: Python, node: ast.Call) -> Value:
    number = node.args[0]
    python.line = node.lineno
    if isinstance(number, ast.Constant) and isinstance(number.value, int):
        return python.session.observer.on_special(python.place, number.value)
    return None


def _invoke(
    python: Python, callee: Value, node: ast.Call, args: list[Value], keywords: dict[str, Value], naming: str | None
) -> Value:
    if isinstance(callee, Function):
        return call_function(python, callee, args, keywords)
    if isinstance(callee, Bound):
        return call_function(python, callee.function, args, keywords, callee.receiver)
    if isinstance(callee, Class):
        made = Object(callee)
        start = callee.find("__init__")
        if isinstance(start, Function):
            call_function(python, start, args, keywords, made)
        else:
            made.attributes.update(zip(callee.fields, args, strict=False))
            made.attributes.update(keywords)
            base = next((b for b in callee.bases if isinstance(b, Symbol)), None)
            if base is not None:
                python.session.observer.on_call(Call(base.path, node, args, keywords, None, naming))
        return made
    if isinstance(callee, Object):
        called = callee.of.find("__call__") or callee.of.find("forward")
        return call_function(python, called, args, keywords, callee) if isinstance(called, Function) else None
    if isinstance(callee, Made) and callee.path in callbacks.LATER and callee.args:
        inner = callee.args[0]
        if isinstance(inner, Function | Bound):
            return callbacks.partial(python, callee, args, keywords)
        return _invoke(python, inner, node, [*callee.args[1:], *args], {**callee.keywords, **keywords}, naming)
    receiver = callee.receiver if isinstance(callee, Member) else None
    path = callee.path if isinstance(callee, Symbol | Member | Made | Unknown) else "?"
    if isinstance(callee, Made | Unknown):
        receiver = callee
    call = Call(path, node, args, keywords, receiver, naming)
    callbacks.follow(python, call)
    value = pure_call(python, call)
    if value is not MISSING:
        return value
    answer = python.session.observer.on_call(call)
    if answer is not MISSING:
        return answer
    reason = result_reason(call)
    kept = dict(keywords) if path.endswith(_HOLDERS) else {}
    return Made(path + "()", args, keywords, receiver, kept, segment(python.place, node), reason)


def _name_of(naming: ast.expr | None) -> str | None:
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


EXPRESSIONS: dict[type[ast.expr], Callable[[Python, Any], Value]] = {ast.Call: _call}
