"""Connections that come to nothing: those on which nobody asks anything, and those whose other end is gone.

Each holds a descriptor. Of scans, half-dead routers and machines that were switched off there are a few every day, and
after months none would be left for those who ask.
"""

from __future__ import annotations

import asyncio
import resource
import socket

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 60.0
"""Seconds in which the head of a request has to be there, from its first byte or from the connection's beginning."""
_MOST_OPEN = 65_536
"""Descriptors that this process is let have where the system allows it: the usual 1024 are fewer than may wait in a
queue."""
_IDLE, _BETWEEN, _TIMES = 120, 30, 4
"""Seconds of silence after which the other machine is asked whether it is there, between that and the next time, and
how often before it is taken for gone."""


class PatientProtocol(H11Protocol):
    """uvicorn's protocol, which ends a connection where the head of a request does not come."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Something came."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._forget_head()
        elif self._head is None and self.conn.trailing_data[0]:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._forget_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self._end)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _end(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def notice_the_gone(listening: socket.socket) -> None:
    """Have the system end connections whose other end does not answer any more; what is accepted inherits that."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", _IDLE), ("TCP_KEEPINTVL", _BETWEEN), ("TCP_KEEPCNT", _TIMES)):
        if (option := getattr(socket, name, None)) is not None:
            listening.setsockopt(socket.IPPROTO_TCP, option, value)


def allow_many() -> None:
    """Let this process have as many descriptors as the system lets it, up to a number that is enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_OPEN if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            pass  # It stays as it is.
