"""Web servers of one notebook that `allmend run` runs: a listener of their own, and a link for each in the terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allmend.apps.proxy import Proxy
from allmend.apps.servers import Registry, is_server_name

if TYPE_CHECKING:
    from allmend.access import Listener
    from allmend.box.box import Box
    from allmend.box.job import Later
    from allmend.box.web import WebServer

_LINK_SECONDS = 6 * 3600.0
_LOOK_SECONDS = 0.3


class Links:
    """A `Web` of the box that tells a person each server's link. Nothing listens before there is one.

    Args:
        tell: hears a line for the person.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.registry = Registry(self._port)
        self._listener: Listener | None = None
        self._lock = threading.Lock()

    def served(self, server: WebServer) -> None:
        """As in `Web`."""
        shown = self.registry.reserve("run", server.port)
        shown.path = server.path
        link = self.registry.link(shown, lasts=_LINK_SECONDS)
        self.tell(f"the notebook's web server on port {server.port} is here (the link works once): {link}")

    def address(self, port: int, path: str) -> str | None:
        """As in `Web`."""
        return self.registry.address(self.registry.reserve("run", port, first=path), path)

    def stay(self, box: Box, _: Later) -> None:
        """Keep the run open for its web servers until Ctrl-C; return at once when there are none.

        Nothing in a terminal can be clicked, so nothing is called later.
        """
        until = time.monotonic() + (30.0 if box.services.awaited else 0.0)
        while not box.look_for_servers():
            if box.ended is not None or time.monotonic() > until:
                return
            time.sleep(_LOOK_SECONDS)
        self.tell("every cell ran; Ctrl-C closes its web server and ends the run")
        try:
            while box.ended is None:
                time.sleep(_LOOK_SECONDS)
        except KeyboardInterrupt:
            box.stop("finished", "every cell ran; a person closed it")

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()

    def _port(self) -> int:
        from allmend.access import Listener, bind

        with self._lock:
            if self._listener is None:
                sock = bind("127.0.0.1", 0)
                self._listener = Listener(self._answer, sock, "127.0.0.1", ws="websockets-sansio").start()
            return self._listener.port

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        host = next((value for name, value in scope["headers"] if name.lower() == b"host"), b"")
        if not is_server_name(host.decode("latin-1").partition(":")[0].lower()):
            scope = {**scope, "headers": [(b"host", b"run-none.localhost")]}  # known by no other name
        await Proxy(self.registry)(scope, receive, send)

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
