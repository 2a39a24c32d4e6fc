"""A run whose notebook serves pages of its own: told to whoever watches, and kept open while somebody uses them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from allmend.apps.servers import Registry, Shown

if TYPE_CHECKING:
    from allmend.apps.runs import AppRun
    from allmend.box.box import Box
    from allmend.box.web import WebServer

IDLE_SECONDS = 15 * 60.0
"""A run that only serves ends when nobody has used its pages for so long."""
_COMES_SECONDS = 30.0
_LOOK_SECONDS = 0.3


class RunServers:
    """The web servers of one run; a `Web` of the box.

    Args:
        release: gives the run's place among those that run together to the next; its pages may be open for hours.
        expected: whether the notebook is known to start a server, so that one that takes a while is waited for.
    """

    def __init__(
        self, registry: Registry, run: AppRun, *, hosts: tuple[str, ...], expected: bool, release: Callable[[], object]
    ) -> None:
        self.registry = registry
        self.run = run
        self.hosts = hosts
        self.expected = expected
        self.release = release

    def served(self, server: WebServer) -> None:
        """As in `Web`."""
        shown = self._shown(server.port)
        shown.path = server.path
        self.run.tell("server", port=server.port, address=self.registry.address(shown, shown.first))
        self.release()

    def address(self, port: int, path: str) -> str | None:
        """As in `Web`."""
        shown = self.registry.reserve(self.run.id, port, first=path, hosts=self.hosts)
        return self.registry.address(shown, path)

    def stay(self, box: Box) -> None:
        """Return when the run need not stay open: it has no server, nobody uses it, or a person ended it."""
        until = time.monotonic() + (_COMES_SECONDS if self.expected or box.services.awaited else 0.0)
        while not box.look_for_servers():
            if box.ended is not None or time.monotonic() > until:
                return
            time.sleep(_LOOK_SECONDS)
        self.run.serving()
        while box.ended is None:
            if self.registry.idle_seconds(self.run.id) > IDLE_SECONDS:
                box.stop("finished", f"nobody used its web server for {IDLE_SECONDS / 60:g} minutes")
                return
            time.sleep(_LOOK_SECONDS)

    def _shown(self, port: int) -> Shown:
        return self.registry.reserve(self.run.id, port, hosts=self.hosts)
