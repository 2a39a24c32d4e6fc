"""What a visitor sends: JSON of a bounded size, and parameters as values or as a person types them."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from allmend.apps.notebook import NotebookApp
from allmend.apps.parameters import WrongParameters, from_text
from allmend.errors import InputError

_MOST_BODY = 4 * 2**20


def values_of(app: NotebookApp, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a run; raises `WrongParameters` with a sentence for each that cannot be read."""
    values, text = given.get("parameters") or {}, given.get("text") or {}
    if not isinstance(values, dict) or not isinstance(text, dict):
        raise WrongParameters({"parameters": "must be an object"})
    known = {parameter.name: parameter for parameter in app.parameters}
    wrong: dict[str, str] = {}
    read = dict(values)
    for name, word in text.items():
        if name not in known or not isinstance(word, str):
            read[name] = word
            continue
        if word == ("" if known[name].default is None else str(known[name].default)):
            continue  # as the notebook has it
        try:
            read[name] = from_text(known[name], word)
        except ValueError as error:
            wrong[name] = str(error)
    if wrong:
        raise WrongParameters(wrong)
    return read


async def read_json(request: Request) -> dict[str, Any]:
    """The body; raises `InputError` where it is no JSON object or too large."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise InputError("send JSON, with Content-Type: application/json")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MOST_BODY:
            raise InputError(f"larger than {_MOST_BODY >> 20} MiB")
        parts.append(part)
    try:
        read = json.loads(b"".join(parts))
    except (ValueError, RecursionError):
        raise InputError("this is not JSON") from None
    if not isinstance(read, dict):
        raise InputError("send a JSON object")
    return read
