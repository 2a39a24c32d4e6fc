"""The application on a port, in a thread of this process."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from allmend.access import Listener, bind, is_loopback
from allmend.errors import Refused

if TYPE_CHECKING:
    from fastapi import FastAPI

    from allmend.serving.registry import Registry

__all__ = ["Server", "bind", "check_key", "is_loopback"]


def check_key(host: str, key: str | None) -> None:
    """Raise `Refused` when others could reach the server and no key is asked of them."""
    if not key and not is_loopback(host):
        raise Refused(
            f"{host} can be reached by others, so a key is needed",
            where="--host",
            hint="Give one with --api-key, or in the environment as ALLMEND_API_KEY; or stay on 127.0.0.1.",
        )


class Server(Listener):
    """A server that runs; close it, or use it in a `with` block.

    Attributes:
        url: where it answers, without a trailing slash.
        registry: what it serves; adapters can be added and removed while it runs.
    """

    def __init__(self, app: FastAPI, registry: Registry, listening: socket.socket, host: str) -> None:
        super().__init__(app, listening, host, lifespan="on")
        self.registry = registry

    def end_what_is_left(self) -> None:
        """Engines end what is left; its streams get an error event and close as they should."""
        self.registry.close()
