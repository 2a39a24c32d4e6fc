"""Strings in a body that are no text: half of a surrogate pair, which JSON can write and UTF-8 cannot."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from allmend.serving.faults import Fault

_SUSPECT = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]|\x00")
"""A body without any of these has no such string; the last is in every body that is not UTF-8."""


class CarefulRoute(APIRoute):
    """A route that refuses JSON bodies with strings that are no text, naming the field, before anything reads them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with the look before it."""
        handle = super().get_route_handler()

        async def careful(request: Request) -> Response:
            if "json" in request.headers.get("content-type", "").lower():
                await _look(request)
            return await handle(request)

        return careful


async def _look(request: Request) -> None:
    try:
        if _SUSPECT.search(await request.body()) is None:
            return
        # Kept by the request: what reads the body next does not parse it again.
        value = await request.json()
    except (ValueError, RecursionError):
        return  # What cannot be read at all is refused by what reads it.
    refuse(value)


def refuse(value: Any, where: str = "") -> None:
    """Raise `Fault` 400 that names the first string within `value` that cannot be written as UTF-8."""
    left: list[tuple[str, Any]] = [(where, value)]
    while left:
        where, value = left.pop()
        if isinstance(value, str):
            if not is_text(value):
                raise _no_text(where)
        elif isinstance(value, dict):
            if not all(is_text(key) for key in value):
                raise _no_text(where)  # The field itself has no name that could be written.
            left += [(f"{where}.{key}".lstrip("."), each) for key, each in reversed(value.items())]
        elif isinstance(value, list):
            left += [(f"{where}.{place}".lstrip("."), each) for place, each in reversed(list(enumerate(value)))]


def is_text(value: str) -> bool:
    """Whether UTF-8 can write it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_text(where: str) -> Fault:
    words = "It has half of a surrogate pair, which is no character"
    at = f" (at {where})" if where else ""
    return Fault(400, f"{words}{at}", param=where or None, code="invalid_text")
