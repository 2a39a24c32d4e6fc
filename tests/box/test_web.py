"""Web servers inside, found from outside."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

from allmend.box.publish import Published, Ways
from allmend.box.record import Record
from allmend.box.web import Finder, WebServer

PORT = 7860


class Answering(Ways):
    """A server inside that answers; two who dial at once meet."""

    def __init__(self) -> None:
        self.together = threading.Barrier(2)
        self.ends: list[socket.socket] = []

    def listening(self) -> list[int]:
        return [PORT]

    def dial(self, port: int) -> socket.socket | None:
        try:
            self.together.wait(0.3)
        except threading.BrokenBarrierError:
            pass
        ours, theirs = socket.socketpair()
        theirs.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        self.ends.append(theirs)
        return ours


def test_two_looks_at_once_find_a_server_once(tmp_path: Path) -> None:
    ways, record, told = Answering(), Record(), list[WebServer]()

    async def looking() -> None:
        published = Published(ways, record)
        finder = Finder(published, record, tmp_path / "web")
        await asyncio.gather(*(finder.look(told.append) for _ in range(3)))
        await published.stop()

    asyncio.run(looking())
    for end in ways.ends:
        end.close()
    assert [server.port for server in told] == [PORT]
