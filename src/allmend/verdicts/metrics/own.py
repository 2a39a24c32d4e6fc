"""A metric of one's own: `file.py:function`, called with each answer."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from allmend.data import Row
from allmend.errors import InputError, NotFound, UsageError, nearest
from allmend.verdicts.metrics.metric import Metric


def is_own(name: str) -> bool:
    """Whether a metric's name is that of a function in a file."""
    file, colon, function = name.rpartition(":")
    return bool(colon) and file.endswith(".py") and function.isidentifier()


def own_metric(name: str) -> Metric:
    """The metric `file.py:function`.

    The function is called with the answer and, by the names of its parameters, what it asks for of `expected`,
    `prompt`, `row` (as `allmend.data.Row`); it returns a number or a truth. It runs in this process, unboxed: name
    only a file that is your own. When it raises for a row, that row is named and the rest counts.
    """
    function = own_function(name)
    takes = _parameters(function, name)

    def score(answer: str, row: Row) -> float:
        have = {"expected": row.completion, "prompt": row.prompt, "row": row}
        return float(function(answer, **{key: have[key] for key in takes}))

    higher = bool(getattr(function, "higher_is_better", True))
    return Metric(function.__name__, _first_line(function) or f"by {name}", score=score, higher_is_better=higher)


def own_function(name: str) -> Callable[..., Any]:
    """The function that `file.py:function` names; its file is executed."""
    file, _, wanted = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise NotFound(f"there is no file {file}", where=name)
    spec = importlib.util.spec_from_file_location(f"allmend_own_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"it cannot be imported: {type(error).__name__}: {error}", where=file) from error
    function = getattr(module, wanted, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise NotFound(f"{file} has no function {wanted!r}", where=name, hint=nearest(wanted, known) or None)
    return function  # type: ignore[no-any-return]


def _parameters(function: Callable[..., Any], name: str) -> list[str]:
    """Names of what the function asks for beside the answer, also where it has a default of its own for it."""
    parameters = list(inspect.signature(function).parameters.values())
    known = {"expected", "prompt", "row"}
    rest = parameters[1:]
    unknown = [one.name for one in rest if one.name not in known and one.default is one.empty]
    if not parameters or unknown:
        raise UsageError(
            f"{name} asks for {', '.join(unknown) or 'nothing'}",
            hint="A metric takes the answer first, then any of: expected, prompt, row.",
        )
    return [one.name for one in rest if one.name in known]


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").strip().partition("\n")[0]
