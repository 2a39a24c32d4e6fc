"""Functions of the notebook's own that are handed over: to `map`, a pool, a thread, a timer, `partial`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allmend.planning.evaluation.functions import call_function
from allmend.planning.evaluation.values import Bound, Function, Made, Unknown, Value, iterate, options

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.evaluation.python import Python

_OVER = frozenset({"map", "imap", "imap_unordered", "starmap", "filter", "thread_map", "process_map", "map_async"})
_STARTED = frozenset({"Thread", "Process", "Timer", "submit", "apply", "apply_async", "register", "run_in_executor",
                      "to_thread", "start_new_thread", "call_soon", "run_sync", "partial"})  # fmt: skip
_ROUNDS = 60
LATER = frozenset({"functools.partial()", "joblib.delayed()", "joblib.parallel.delayed()", "dask.delayed()"})
"""What holds a function until it is called."""


def follow(python: Python, call: Call) -> None:
    """Follow the functions among the arguments of a library's call with the arguments they will get."""
    handed = [value for value in (*call.args[:3], call.keywords.get("target")) if isinstance(value, Function | Bound)]
    if not handed:
        return
    last = call.path.rpartition(".")[2]
    function = handed[0]
    if last in _OVER:
        _over(python, call, function, spread=last == "starmap")
    elif last == "partial":
        return
    elif last in _STARTED:
        given, keywords = _given(call, function)
        _call(python, function, given, keywords)


def _over(python: Python, call: Call, function: Function | Bound, *, spread: bool) -> None:
    at = call.args.index(function) if function in call.args else 0
    lists = [iterate(value) for value in call.args[at + 1 :]]
    if not lists or any(items is None for items in lists[:1]):
        return
    for row in list(zip(*(items for items in lists if items is not None), strict=False))[:_ROUNDS]:
        args = list(row[0]) if spread and row and isinstance(row[0], tuple | list) else list(row)
        _call(python, function, args, {})


def _given(call: Call, function: Function | Bound) -> tuple[list[Value], dict[str, Value]]:
    args, kwargs = call.keywords.get("args"), call.keywords.get("kwargs")
    last = call.path.rpartition(".")[2]
    if args is None and last in ("submit", "register", "run_in_executor", "to_thread", "call_soon", "run_sync"):
        args = call.args[call.args.index(function) + 1 :] if function in call.args else []
    elif args is None and last in ("apply", "apply_async", "start_new_thread") and len(call.args) > 1:
        args = call.args[1]
    given = list(args) if isinstance(args, list | tuple) else []
    if isinstance(kwargs, dict):
        return given, {key: value for key, value in kwargs.items() if isinstance(key, str)}
    named = call.keywords if last == "submit" else {}
    return given, dict(named)


def _call(python: Python, function: Function | Bound, args: list[Value], keywords: dict[str, Value]) -> Value:
    if isinstance(function, Bound):
        return call_function(python, function.function, args, keywords, function.receiver)
    return call_function(python, function, args, keywords)


def partial(python: Python, made: Made, args: list[Value], keywords: dict[str, Value]) -> Value:
    """Call what `functools.partial` made."""
    inner = next((option for _, option in options(made.args[0]) if isinstance(option, Function | Bound)), None)
    if inner is None:
        return Unknown(made.source or "partial(...)", made.reason)
    return _call(python, inner, [*made.args[1:], *args], {**made.keywords, **keywords})
