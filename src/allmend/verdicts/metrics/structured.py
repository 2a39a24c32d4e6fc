"""Metrics of structured answers: JSON objects, and calls of tools."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from allmend.data import Row
from allmend.verdicts.metrics.metric import Metric

_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.S)
_TOOL_TAG = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|$)", re.S)
_LONGEST = 1 << 20
_MISSING = object()
_KEYS_OF_A_CALL = frozenset({"name", "arguments", "parameters", "id", "type", "function"})


def json_in(text: str) -> Any:
    """The JSON value that a text is, or holds in a code fence; raises ValueError when it is none."""
    text = text[:_LONGEST].strip()
    try:
        try:
            return json.loads(text)
        except ValueError:
            fenced = _FENCE.search(text)
            if fenced is None:
                raise
            return json.loads(fenced.group(1))
    except RecursionError:
        raise ValueError("nested too deep") from None


def json_valid(answer: str) -> float:
    """1 where the answer is JSON (a code fence around it is allowed)."""
    try:
        json_in(answer)
    except ValueError:
        return 0.0
    return 1.0


def json_fields(answer: str, expected: str) -> float:
    """The share of the expected fields that the answer has with the same value; extra fields count against it.

    Objects and lists are taken apart to their leaves; numbers are equal by value, texts up to case and spaces.
    """
    try:
        said = dict(_leaves(json_in(answer)))
    except (ValueError, RecursionError):
        return 0.0
    right = dict(_leaves(json_in(expected)))
    keys = said.keys() | right.keys()
    same = sum(_same(said.get(key, _MISSING), right.get(key, _MISSING)) for key in keys)
    return same / len(keys) if keys else 1.0


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, part in value.items() for leaf in _leaves(part, (*path, str(key)))]
    if isinstance(value, list) and value:
        return [leaf for place, part in enumerate(value) for leaf in _leaves(part, (*path, place))]
    return [(path, value)]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, str) and isinstance(b, str):
        return " ".join(a.split()).casefold() == " ".join(b.split()).casefold()
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


def calls_in(text: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, arguments) of each tool call in an answer; raises ValueError when there is none that can be read.

    Read are `<tool_call>` tags, and JSON objects or lists with `name` and `arguments` (or `parameters`), also as
    OpenAI writes them, with `function` around and the arguments as JSON text. Outside tags an object is a call only
    where it has arguments and nothing that a call has not: many objects have a name.
    """
    tagged = _TOOL_TAG.findall(text)
    values = [json_in(part) for part in tagged] if tagged else [json_in(text)]
    flat = [call for value in values for call in (value if isinstance(value, list) else [value])]
    if not tagged and not all(map(_is_plainly_a_call, flat)):
        raise ValueError("not a tool call")
    return [_call(value) for value in flat]


def _is_plainly_a_call(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    inner = value.get("function")
    if isinstance(inner, Mapping):
        return value.keys() <= _KEYS_OF_A_CALL and inner.keys() <= _KEYS_OF_A_CALL
    return value.keys() <= _KEYS_OF_A_CALL and not value.keys().isdisjoint(("arguments", "parameters"))


def _call(value: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError("not a tool call: no name")
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = json.loads(arguments or "{}")
    if not isinstance(arguments, dict):
        raise ValueError("the arguments of the tool call are no object")
    return value["name"], arguments


def expected_calls(row: Row) -> list[tuple[str, dict[str, Any]]]:
    """The tool calls that a row's answer makes; raises ValueError when it makes none."""
    made = row.messages[-1].get("tool_calls") if row.messages is not None else None
    return [_call(call) for call in made] if made else calls_in(row.completion)


def tool_call_match(answer: str, row: Row) -> float:
    """1 where the answer makes the expected calls: names and arguments, in any order."""
    right = expected_calls(row)
    try:
        said = calls_in(answer)
    except (ValueError, RecursionError):
        return 0.0
    left = list(said)
    for name, arguments in right:
        match = next((call for call in left if call[0] == name and _equal(call[1], arguments)), None)
        if match is None:
            return 0.0
        left.remove(match)
    return float(not left)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return _same(a, b)


def is_json_object(row: Row) -> bool:
    """Whether the row's expected answer is a JSON object or list."""
    try:
        return isinstance(json_in(row.completion), dict | list)
    except ValueError:
        return False


def is_tool_call(row: Row) -> bool:
    """Whether the row's expected answer calls a tool."""
    try:
        return bool(expected_calls(row))
    except ValueError:
        return False


JSON_VALID = Metric("json_valid", "the answer is JSON", score=lambda answer, row: json_valid(answer))
JSON_FIELDS = Metric(
    "json_fields",
    "share of all fields, expected or said, that are expected and have the expected value",
    score=lambda answer, row: json_fields(answer, row.completion),
    fits=is_json_object,
)
TOOL_CALLS = Metric(
    "tool_call_match",
    "the expected calls, names and arguments, in any order",
    score=tool_call_match,
    fits=is_tool_call,
)
