"""The application on a port, in a thread of this process."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

from allmend.access.listening import Listener, bind, is_loopback
from allmend.errors import InputError, NotFound, Refused, UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from allmend.serving.desk import Desk
    from allmend.serving.registry import Registry

_LOOK = 0.05
"""Seconds between looks whether the last answer has ended."""

__all__ = ["Server", "bind", "check_exposure", "is_loopback", "tls_options"]


def check_exposure(host: str, *, key: bool, tls: bool, insecure: bool) -> None:
    """Raise `Refused` when others could reach the server without a key, or read what is said on the way."""
    if is_loopback(host):
        return
    if not key:
        raise Refused(
            f"{host} can be reached by others, so a key is needed",
            where="--host",
            hint="--with-keys asks for keys of `allmend keys`; --api-key, or ALLMEND_API_KEY, is one for all.",
        )
    if not (tls or insecure):
        raise Refused(
            f"{host} can be reached by others, who could read keys and answers on their way",
            where="--host",
            hint="Give --tls-cert and --tls-key, or --insecure where something before it encrypts.",
        )


def tls_options(cert: str | None, key: str | None) -> dict[str, str]:
    """What the web server needs for TLS; raises `UsageError` or `InputError` for files that will not do."""
    if cert is None and key is None:
        return {}
    if cert is None or key is None:
        raise UsageError("TLS needs a certificate and its key", where="--tls-cert", hint="Give both.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: b"")
    except FileNotFoundError as error:
        raise NotFound("there is no such file", where=error.filename or cert) from None
    except (OSError, ValueError) as error:
        words = str(error).partition("(_ssl")[0].strip()
        hint = (
            "Both are PEM files: the certificate with those that lead to its authority, and its key without a password."
        )
        raise InputError(f"this is no certificate with its key ({words})", where=cert, hint=hint) from None
    return {"ssl_certfile": cert, "ssl_keyfile": key}


class Server(Listener):
    """A server that runs; close it, or use it in a `with` block.

    Attributes:
        url: where it answers, without a trailing slash.
        registry: what it serves; adapters can be added and removed while it runs.
    """

    def __init__(
        self, app: FastAPI, registry: Registry, listening: socket.socket, host: str, *, desk: Desk, **options: Any
    ) -> None:
        super().__init__(app, listening, host, lifespan="on", **options)
        self.registry = registry
        self.desk = desk

    def close(self, *, grace: float = 0.0, hurry: threading.Event | None = None) -> None:
        """Take no new work, let answers under way and in the queue have `grace` seconds, then end the rest.

        Until they have ended the port stays open: who comes is told to come again elsewhere, and whoever asks `/ready`
        that nobody should be sent here.
        """
        self.desk.draining = True
        until = time.monotonic() + grace
        while self.desk.under_way and time.monotonic() < until and not (hurry is not None and hurry.is_set()):
            time.sleep(_LOOK)
        super().close(grace=max(until - time.monotonic(), 0.0), hurry=hurry)
        self.desk.close()

    def end_what_is_left(self) -> None:
        """Engines end what is left; its streams get an error event and close as they should."""
        self.registry.close()
