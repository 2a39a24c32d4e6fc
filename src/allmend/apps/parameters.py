"""A notebook's form parameters as types: what a value may be, as JSON schema, from JSON and from text."""

from __future__ import annotations

import ast
import datetime
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from allmend.errors import UsageError, nearest
from allmend.nouns.plan import FormParameter

MOST_TEXT = 1_000_000
_NAME = re.compile(r"[A-Za-z_]\w*\Z")


class WrongParameters(UsageError):
    """Values that the form does not take; `fields` says why by name."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.fields = dict(fields)
        name, why = next(iter(self.fields.items()))
        more = f" (and {len(self.fields) - 1} more)" if len(self.fields) > 1 else ""
        super().__init__(f"{name}: {why}{more}", where=name)


def settable(parameters: Iterable[FormParameter]) -> list[FormParameter]:
    """The parameters that can be given a value: plain names, the first of each."""
    found: dict[str, FormParameter] = {}
    for parameter in parameters:
        if _NAME.match(parameter.name):
            found.setdefault(parameter.name, _bounded(parameter))
    return list(found.values())


def _bounded(parameter: FormParameter) -> FormParameter:
    """Bounds that no value can meet are none."""
    low, high = parameter.minimum, parameter.maximum
    if low is None or high is None or low <= high:
        return parameter
    kind = "number" if parameter.type == "slider" else parameter.type
    return parameter.model_copy(update={"minimum": None, "maximum": None, "step": None, "type": kind})


def misfit(parameter: FormParameter) -> str | None:
    """Why the notebook's own value is none that its form would take; None when it is, or is not known."""
    if parameter.default is None:
        return None
    try:
        _checked(parameter, parameter.default)
    except ValueError as error:
        return str(error)
    return None


def schema(parameters: Sequence[FormParameter]) -> dict[str, Any]:
    """The JSON schema of an object with these parameters, all of them optional."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {parameter.name: _property(parameter) for parameter in parameters},
    }


def _property(parameter: FormParameter) -> dict[str, Any]:
    kinds = {"boolean": "boolean", "integer": "integer", "number": "number", "string": "string", "date": "string"}
    made: dict[str, Any] = {}
    if parameter.choices and not parameter.allow_input:
        made["enum"] = list(parameter.choices)
    elif parameter.choices:
        made["examples"] = list(parameter.choices)
    elif parameter.type == "slider":
        made["type"] = "integer" if _whole(parameter) else "number"
    elif parameter.type in kinds:
        made["type"] = kinds[parameter.type]
    if parameter.type == "date":
        made["format"] = "date"
    if parameter.minimum is not None:
        made["minimum"] = parameter.minimum
    if parameter.maximum is not None:
        made["maximum"] = parameter.maximum
    if isinstance(parameter.default, str | int | float | bool | list) and parameter.default is not None:
        made["default"] = parameter.default
    words = " · ".join(word for word in (parameter.section, parameter.description) if word)
    return made | ({"description": words} if words else {})


def _whole(parameter: FormParameter) -> bool:
    numbers = (parameter.default, parameter.minimum, parameter.maximum, parameter.step)
    return all(number is None or float(number).is_integer() for number in numbers if not isinstance(number, str)) and (
        not isinstance(parameter.default, float)
    )


def check(parameters: Sequence[FormParameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` as the notebook will see them.

    Raises:
        WrongParameters: a name that the form does not have, or a value of another type, named one by one.
    """
    known = {parameter.name: parameter for parameter in parameters}
    taken: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, value in values.items():
        if name not in known:
            near = nearest(name, known)
            wrong[str(name)[:200]] = f"the notebook has no such parameter{f'. {near}' if near else ''}"
            continue
        try:
            taken[name] = _checked(known[name], value)
        except ValueError as error:
            wrong[name] = str(error)
    if wrong:
        raise WrongParameters(wrong)
    return taken


def _checked(parameter: FormParameter, value: Any) -> Any:
    """`value` if the parameter takes it; raises ValueError that says what it takes."""
    if isinstance(value, str) and len(value) > MOST_TEXT:
        raise ValueError(f"longer than {MOST_TEXT:,} characters")
    if parameter.choices:
        if value in parameter.choices and type(value) is type(parameter.choices[parameter.choices.index(value)]):
            return value
        if not parameter.allow_input:
            raise ValueError("must be one of " + ", ".join(map(repr, parameter.choices[:12])))
        if not isinstance(value, str | int | float):
            raise ValueError("must be a text or a number")
        return value
    if parameter.type == "boolean":
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
    elif parameter.type in ("integer", "number", "slider"):
        _number(parameter, value)
    elif parameter.type == "date":
        _date(value)
    elif parameter.type == "string" and not isinstance(value, str):
        raise ValueError("must be a text")
    return value


def _number(parameter: FormParameter, value: Any) -> None:
    whole = parameter.type == "integer" or (parameter.type == "slider" and _whole(parameter))
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ValueError("must be a whole number" if whole else "must be a number")
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("must be a finite number")
    low, high = parameter.minimum, parameter.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(
            f"must lie between {low:g} and {high:g}" if low is not None and high is not None else "out of range"
        )


def _date(value: Any) -> None:
    try:
        datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("must be a date like 2026-01-31") from None


def from_text(parameter: FormParameter, text: str) -> Any:
    """A value from what a person typed, in a form's field or a table's cell; raises ValueError saying what it takes."""
    word = text.strip()
    if parameter.choices:
        found = next((choice for choice in parameter.choices if str(choice) == text), None)
        return found if found is not None else text
    if parameter.type == "boolean":
        answers = {
            "true": True,
            "1": True,
            "yes": True,
            "on": True,
            "false": False,
            "0": False,
            "no": False,
            "off": False,
            "": False,
        }
        if word.lower() not in answers:
            raise ValueError("must be true or false")
        return answers[word.lower()]
    if parameter.type in ("integer", "number", "slider"):
        try:
            return int(word) if re.fullmatch(r"[+-]?\d{1,300}", word) else float(word)
        except ValueError:
            raise ValueError("must be a number") from None
    if parameter.type in ("string", "date"):
        return text
    return _raw(parameter, text)


def _raw(parameter: FormParameter, text: str) -> Any:
    """Python's literals and JSON, nothing that would run; a parameter whose default is text takes any text."""
    for read in (ast.literal_eval, json.loads):
        try:
            value = read(text.strip()) if len(text) < 10_000 else None
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, str | int | float | bool | list | dict | tuple | None):
            return value
    if isinstance(parameter.default, str):
        return text
    raise ValueError("must be written like a Python value: 3, 'text', [1, 2]")
