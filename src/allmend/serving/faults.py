"""Errors in the shape that OpenAI's clients read, with the status they act on."""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from allmend.engines.text import Restarting
from allmend.errors import AllmendError, DoesNotFit, InputError, NotFound, Refused, Unavailable, UsageError, nearest

_KIND = re.compile(r"str|int|float|bool|constrained-\w+|[A-Z][a-z]+[A-Z]\w*|[\w-]+\[.*\]", re.DOTALL)
"""Pydantic's names for the kinds that a value may be of."""


class FaultDetail(BaseModel):
    """What was wrong."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    message: str
    type: str
    param: str | None = None
    """The field of the request it is about."""
    code: str | None = None
    """A word that programs can act on."""


class FaultBody(BaseModel):
    """The body of every answer that is not a success."""

    error: FaultDetail


class Fault(Exception):
    """An answer that is not a success."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.detail = FaultDetail(message=message, type=type, param=param, code=code)

    def body(self) -> dict[str, Any]:
        """The body, as plain JSON values."""
        return FaultBody(error=self.detail).model_dump()


class Missing(NotFound):
    """A file, batch or store that is not there: no matter of a model."""


def unsupported(what: str, param: str | None) -> Fault:
    """A part of the API that is known here and not offered."""
    return Fault(400, f"{what} is not supported by this server", param=param, code="unsupported_parameter")


def context_exceeded(tokens: int, context: int) -> Fault:
    """The prompt is longer than the model can read."""
    return Fault(
        400,
        f"This model's maximum context length is {context} tokens. However, your prompt has {tokens} tokens.",
        param="messages",
        code="context_length_exceeded",
    )


def of_error(error: AllmendError, param: str | None = None) -> Fault:
    """One of allmend's own errors as an answer."""
    message = f"{error.message}. {error.hint}" if error.hint else error.message
    if isinstance(error, Missing):
        return Fault(404, message, param=param, code="not_found")
    if isinstance(error, NotFound):
        return Fault(404, message, param=param or "model", code="model_not_found")
    if isinstance(error, DoesNotFit):
        return Fault(400, message, param=param, code="context_length_exceeded")
    if isinstance(error, InputError | UsageError):
        return Fault(400, message, param=param, code="invalid_value")
    if isinstance(error, Refused):
        return Fault(403, message, type="permission_error", param=param, code="refused")
    if isinstance(error, Restarting):
        return _restarting(error)
    if isinstance(error, Unavailable):
        return Fault(503, message, type="server_error", param=param, code="unavailable")
    return Fault(500, message, type="server_error", param=param)


def _restarting(error: Restarting) -> Fault:
    words = f"{error.message[0].upper()}{error.message[1:]}."
    if error.retry_after is None:
        return Fault(500, words, type="server_error", code="engine_crashes", headers={"x-should-retry": "false"})
    seconds = max(math.ceil(error.retry_after), 1)
    headers = {"retry-after": str(seconds), "retry-after-ms": str(1000 * seconds), "x-should-retry": "true"}
    return Fault(503, words, type="server_error", code="engine_starting", headers=headers)


def bug(error: Exception) -> Fault:
    """What nobody foresaw, by its kind alone."""
    words = f"Something went wrong inside the server ({type(error).__name__})."
    return Fault(500, words, type="server_error", code="internal_error")


def of_validation(problems: list[Any], known: dict[str, Any]) -> Fault:
    """The first problem that Pydantic found in a request; an unknown field names the nearest known one."""
    problem = _telling(problems)
    place = _place(problem)
    param = ".".join(place) or None
    if problem["type"] == "json_invalid":
        reason = problem.get("ctx", {}).get("error", "it cannot be read")
        return Fault(400, f"The body is not valid JSON: {reason}", code="invalid_json")
    if problem["type"] == "extra_forbidden":
        hint = nearest(place[-1], known, 1) if len(place) == 1 else ""
        message = f"Unrecognized request argument supplied: {place[-1]}"
        return Fault(400, f"{message}. {hint}" if hint else message, param=param, code="unknown_parameter")
    if problem["type"] == "missing":
        if not place:
            return Fault(400, "The request has no JSON body.", code="missing_body")
        return Fault(400, f"Missing required parameter: {param}", param=param, code="missing_required_parameter")
    if problem["type"] == "model_attributes_type" and not place:
        return Fault(400, "The body must be a JSON object, sent as application/json.", code="invalid_type")
    message = str(problem["msg"]).removeprefix("Value error, ")
    if message.startswith("Expected UploadFile"):
        message = f"{param} must be a file: a part of the form with a file name (filename=; filename*= is not read)"
    return Fault(400, f"{message} (at {param})" if param else message, param=param, code="invalid_value")


def _telling(problems: list[Any]) -> Any:
    """The problem to tell of: where a value could be one of several kinds, of the kind that it is."""
    first = problems[0]
    if not _is_other_kind(first):
        return first
    at = _place(first)
    same = [problem for problem in problems if _place(problem)[: len(at)] == at]
    return next((problem for problem in same if not _is_other_kind(problem)), max(same, key=_depth))


def _is_other_kind(problem: Any) -> bool:
    return str(problem["type"]).endswith(("_type", "_parsing"))


def _depth(problem: Any) -> int:
    return len(_place(problem))


def _place(problem: Any) -> list[str]:
    """Where in the request a problem is, as clients name it: without the part of the request and kinds of values."""
    loc = [str(part) for part in problem.get("loc", ())]
    if loc and loc[0] in ("body", "query", "path", "header"):
        loc = loc[1:]
    return loc[:1] + [part for part in loc[1:] if not _KIND.fullmatch(part)]


def of_pydantic(error: ValidationError, known: dict[str, Any]) -> Fault:
    """A `ValidationError` as an answer."""
    return of_validation(list(error.errors(include_url=False)), known)
