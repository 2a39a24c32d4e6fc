"""What bodies of requests share: JSON whose text a database can keep, and a bound on how long one may be."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from allmend.hub.encoded import App, Receive, Scope, Send
from allmend.hub.faults import Fault

_LONGEST = 32 * 2**20
_STREAMED = ("/commit/", "/lfs/", "/v1/")
"""Parts of addresses whose bodies are read as they come, with bounds of their own."""


class Body(BaseModel):
    """A body as JSON; what is not known is left alone."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _no_nul(cls, values: Any) -> Any:
        if isinstance(values, dict) and any(isinstance(each, str) and "\0" in each for each in values.values()):
            raise ValueError("a text holds the character 0")
        return values


class Bounded:
    """ASGI middleware: 413 for a body that says it is longer than any but uploads are; others are counted."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a bound on its body."""
        if scope["type"] != "http" or any(part in scope["path"] for part in _STREAMED):
            await self._app(scope, receive, send)
            return
        stated = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if stated.isdigit() and int(stated[:20]) > _LONGEST:
            response = Fault(413, f"The body has more than {_LONGEST:,} bytes.", headers={"connection": "close"})
            await response.response()(scope, receive, send)
            return
        taken = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > _LONGEST:
                raise ValueError("the body is too long")
            return message

        await self._app(scope, counted, send)
