"""Literal values as forms write them: JSON, JSON with bare keys, Python."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_BARE_KEY = re.compile(r"([{,]\s*)([A-Za-z_][\w-]*)\s*:")


def loose(text: str) -> Any:
    """JSON, JSON with bare keys, or a Python literal; None when it is none of them."""
    for read in (json.loads, lambda t: json.loads(_BARE_KEY.sub(r'\1"\2":', t)), ast.literal_eval):
        try:
            return jsonable(read(text[:20_000]))
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return None


def literal(text: str) -> Any:
    """The value of a Python literal, or its source text when it is an expression."""
    text = text.strip()
    try:
        return jsonable(ast.literal_eval(text[:20_000]))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return text[:500]


def jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def type_of(value: Any) -> str:
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string")):
        if isinstance(value, kind):
            return name
    return "raw"
