"""An application on an address of this machine, in a thread of this process."""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import uvicorn

from allmend.access.certificates import Renewal
from allmend.access.connections import PatientProtocol, allow_many, notice_the_gone
from allmend.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_START_SECONDS = 30.0
_TRIED = 20
"""Ports after a taken one that are tried to name a free one."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; 0 takes a free port.

    Raises:
        Unavailable: the port is taken or may not be used; the hint names one that is free.
        UsageError: the host is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise UsageError(f"{host!r} is no address of this machine", where="--host") from None
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        notice_the_gone(made)
        made.bind(address)
        made.listen(1024)
    except OSError as error:
        made.close()
        raise _bind_error(error, host, port) from None
    made.setblocking(False)
    return made


def _bind_error(error: OSError, host: str, port: int) -> Exception:
    if error.errno == errno.EADDRINUSE:
        free = next((each for each in range(port + 1, min(port + _TRIED, 65536)) if _is_free(host, each)), None)
        named = f"`--port {free}` is free; " if free else ""
        hint = f"{named}`--port 0` takes any free one."
        return Unavailable(f"port {port} is in use by another program", where="--port", hint=hint)
    if error.errno == errno.EACCES:
        hint = "Ports below 1024 need rights; take a higher one."
        return Unavailable(f"port {port} may not be used", where="--port", hint=hint)
    return UsageError(f"cannot listen on {host}: {error.strerror}", where="--host")


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError:
            return False
    return True


class Listener:
    """A server that runs; close it, or use it in a `with` block.

    Attributes:
        url: where it answers, without a trailing slash.
    """

    def __init__(self, app: ASGIApp, listening: socket.socket, host: str, **options: Any) -> None:
        port = listening.getsockname()[1]
        self.port: int = port
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        self.url = f"{'https' if options.get('ssl_certfile') else 'http'}://{shown}:{port}"
        self._socket = listening
        options.setdefault("lifespan", "off")
        # The parser that comes with uvicorn, also where another is installed: one is tested and measured.
        options.setdefault("http", PatientProtocol)
        config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, **options)
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="allmend-server", daemon=True)
        self._closed = False
        self._renewal: Renewal | None = None

    def start(self) -> Self:
        """Begin to answer; returns when requests are taken."""
        allow_many()
        self._thread.start()
        until = time.monotonic() + _START_SECONDS
        while not self._uvicorn.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                raise Unavailable("the server did not start", hint="Run it again with --debug.")
            time.sleep(0.01)
        config = self._uvicorn.config
        if config.ssl is not None and config.ssl_certfile and config.ssl_keyfile:
            self._renewal = Renewal(config.ssl, str(config.ssl_certfile), str(config.ssl_keyfile))
        return self

    def check_alive(self) -> None:
        """Raise `Unavailable` when the server has ended by itself."""
        if not self._thread.is_alive() and not self._closed:
            raise Unavailable("the server ended by itself", hint="Run it again with --debug.")

    def close(self, *, grace: float = 0.0, hurry: threading.Event | None = None) -> None:
        """Stop: no new connections, `grace` seconds for answers under way, then the rest is ended.

        Args:
            hurry: set it to end the grace early.
        """
        if self._closed:
            return
        self._closed = True
        if self._renewal is not None:
            self._renewal.stop()
        self._uvicorn.should_exit = True
        until = time.monotonic() + grace
        while self._uvicorn.server_state.tasks and time.monotonic() < until:
            if hurry is not None and hurry.is_set():
                break
            time.sleep(0.05)
        self.end_what_is_left()
        self._thread.join(timeout=10)
        if self._thread.is_alive():
            self._uvicorn.force_exit = True
            self._thread.join(timeout=10)
        self._socket.close()

    def end_what_is_left(self) -> None:
        """Make answers that are still under way come to their end; for those who can."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        self._uvicorn.run(sockets=[self._socket])
