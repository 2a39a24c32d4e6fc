"""A run whose notebook serves pages of its own: told to whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from allmend.apps.servers import Registry, Shown

if TYPE_CHECKING:
    from allmend.apps.runs import AppRun
    from allmend.box.web import WebServer


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

    def idle_seconds(self) -> float:
        """How long nobody has used any of them."""
        return self.registry.idle_seconds(self.run.id)

    def _shown(self, port: int) -> Shown:
        return self.registry.reserve(self.run.id, port, hosts=self.hosts)
