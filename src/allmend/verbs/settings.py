"""What every verb's settings class shares, and the types people write their settings in.

A settings class is the verb's command line, HTTP body and web form at once: field names are flags, field
docstrings are help. Values are parsed here, so that every surface takes `15m` and `8G` alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from allmend.errors import UsageError, nearest

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE_UNITS |= {unit + end: size for unit, size in _SIZE_UNITS.items() for end in ("b", "ib")} | {"": 1, "b": 1}
_NUMBER_AND_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)")


def parse_duration(value: object) -> object:
    """Seconds from `90`, `"90s"`, `"15m"`, `"1h30m"`; other types pass through to Pydantic."""
    if not isinstance(value, str):
        return value
    if len(value) > 60:
        raise ValueError("a duration is written like 90s, 15m or 1h30m")
    text = value.strip().lower()
    parts = _NUMBER_AND_UNIT.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text.replace(" ", ""):
        raise ValueError(f"{value!r} is not a duration; write it like 90s, 15m or 1h30m")
    total = 0.0
    for number, unit in parts:
        if unit not in _DURATION_UNITS and not (unit == "" and len(parts) == 1):
            raise ValueError(f"{value!r} has the unknown unit {unit!r}; use s, m, h or d")
        total += float(number) * _DURATION_UNITS.get(unit, 1.0)
    return total


def _positive(seconds: float) -> float:
    if not 0 < seconds < math.inf:
        raise ValueError("a duration must be more than zero")
    return seconds


def _not_negative(seconds: float) -> float:
    if not 0 <= seconds < math.inf:
        raise ValueError("a limit must be zero, for none, or more")
    return seconds


def parse_size(value: object) -> object:
    """Bytes from `1024`, `"8G"`, `"512 MiB"`; other types pass through to Pydantic."""
    if not isinstance(value, str):
        return value
    match = _NUMBER_AND_UNIT.fullmatch(value.strip().lower())
    if not match or match[2] not in _SIZE_UNITS or len(match[1]) > 30:
        raise ValueError(f"{value!r} is not a size; write it like 512M or 8G")
    return int(float(match[1]) * _SIZE_UNITS[match[2]])


Duration = Annotated[float, BeforeValidator(parse_duration), AfterValidator(_positive), PlainSerializer(float)]
"""Seconds, written as `15m`."""

Limit = Annotated[float, BeforeValidator(parse_duration), AfterValidator(_not_negative), PlainSerializer(float)]
"""Seconds, written as `15m`; 0 for no limit."""

Size = Annotated[int, BeforeValidator(parse_size)]
"""Bytes, written as `8G`."""


class Settings(BaseModel):
    """Frozen settings of one verb; an unknown key is an error that names the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Check `values`; raises `UsageError` in a person's words instead of Pydantic's."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise usage_error(error, cls.model_fields) from None


def usage_error(error: ValidationError, known: Mapping[str, object]) -> UsageError:
    """The first problem of a Pydantic error as a `UsageError`."""
    problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "extra_forbidden":
        return UsageError(f"there is no setting {name!r}", hint=nearest(name, known) or None)
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float) and repr(given) not in message else ""
    return UsageError(f"{message}{shown}", where=f"--{name.replace('_', '-')}" if name else None)
