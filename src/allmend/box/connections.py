"""Every way into and out of one box: the gate with its servers, ports shown outside, web servers found inside."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from allmend.box.egress.gate import Gate
from allmend.box.egress.policy import Policy
from allmend.box.egress.servers import Servers
from allmend.box.places import Places
from allmend.box.publish import Dialer, Loopback, Published, Ways
from allmend.box.record import Record
from allmend.box.services import Services
from allmend.box.settings import Settings
from allmend.box.web import Finder, Web


class Connections:
    """Opened before the box starts, served while it runs.

    Attributes:
        servers: what listens for the box's own connections.
        proxy: level B's listening socket on this machine's loopback; None elsewhere.
        dialer_inside: the end that goes inside to the process that opens connections there; None where none is wanted.
        own_ports: the ports that level B's box listens on.
    """

    def __init__(self, settings: Settings, places: Places, policy: Policy, record: Record) -> None:
        self._settings, self._places, self._policy, self._record = settings, places, policy, record
        self.servers = Servers()
        self.own_ports: Callable[[], list[int]] = list
        self.proxy = socket.create_server(("127.0.0.1", 0), backlog=128) if settings.level == "B" else None
        self._publish: Sequence[int] = settings.permissions.network.publish if places.separate else ()
        self._dialer: socket.socket | None = None
        self.dialer_inside: socket.socket | None = None
        if places.separate and (self._publish or settings.web):
            self._dialer, self.dialer_inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._published: Published | None = None
        self._finder: Finder | None = None

    @property
    def proxy_port(self) -> int | None:
        """Where level B's proxy listens."""
        return int(self.proxy.getsockname()[1]) if self.proxy is not None else None

    async def start(self, listeners: dict[str, socket.socket], services: Services, sockets: Path) -> None:
        """Serve.

        Args:
            listeners: the box's listening sockets by name, as the launcher handed them out.
            services: what the box itself answers.
            sockets: a folder for sockets that lead to web servers inside.
        """
        settings = self._settings
        gate = Gate(
            self._policy, self._record, resolver=settings.resolver, connect=settings.connect, local=services.answer
        )
        if self.proxy is not None:
            listeners = {"proxy": self.proxy}
        self.servers.gate = gate
        await self.servers.start(listeners, private=self.proxy is not None)
        if not (self._publish or settings.web):
            return
        ways: Ways = Dialer(self._dialer) if self._dialer is not None else Loopback(lambda: self.own_ports())
        self._published = Published(ways, self._record)
        if self._publish:
            await self._published.start(self._publish)
        if settings.web:
            self._finder = Finder(self._published, self._record, sockets)

    @property
    def finds(self) -> bool:
        """Whether web servers inside are looked for."""
        return self._finder is not None

    async def look(self, web: Web) -> bool:
        """Tell `web` of web servers that were not there before; whether there are any at all."""
        if self._finder is None:
            return False
        await self._finder.look(web.served)
        return bool(self._finder.found)

    async def stop(self) -> None:
        """Serve no more."""
        await self.servers.stop()
        if self._published is not None:
            await self._published.stop()

    def pass_on(self) -> None:
        """The box has what goes inside: close our copies of it."""
        if self.dialer_inside is not None:
            self.dialer_inside.close()

    def close(self) -> None:
        """Close what was opened."""
        self.pass_on()
        for sock in (self.proxy, self._dialer):
            if sock is not None:
                sock.close()
