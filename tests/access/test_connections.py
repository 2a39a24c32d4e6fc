"""Connections on which nothing is asked do not stay for ever; others are left alone."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from allmend.access import connections
from allmend.access.listening import Listener, bind


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what the body was."""
    body = (await receive())["body"] if scope["method"] == "POST" else b"hello"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def running() -> Iterator[Listener]:
    with Listener(app, bind("127.0.0.1", 0), "127.0.0.1").start() as made:
        yield made


def connected(running: Listener) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", running.port))
    made.settimeout(120)
    return made


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nhost: x\r\n"])
def test_a_connection_on_which_nothing_is_asked_is_ended(
    running: Listener, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    with connected(running) as silent:
        silent.sendall(said)
        assert silent.recv(1) == b""


def answer(asking: socket.socket) -> bytes:
    """A whole one, whose body ends the way that every body here does."""
    said = b""
    while not said.endswith((b"ok", b"hello")):
        more = asking.recv(1000)
        assert more
        said += more
    return said


def test_only_the_head_of_a_request_has_to_come_in_time(running: Listener) -> None:
    with connected(running) as asking:
        for _ in range(2):
            asking.sendall(b"POST / HTTP/1.1\r\nhost: x\r\n")
            until = time.monotonic() + 120
            while not (found := list(running._uvicorn.server_state.connections)) or found[0]._head is None:
                assert time.monotonic() < until
                time.sleep(0.01)
            asking.sendall(b"content-length: 2\r\n\r\n")
            while found[0]._head is not None:
                assert time.monotonic() < until
                time.sleep(0.01)
            asking.sendall(b"ok")
            assert answer(asking).endswith(b"ok") and found[0]._head is None


def test_the_other_ends_machine_is_asked_whether_it_is_there(running: Listener) -> None:
    assert running._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    with connected(running) as asking:
        asking.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answer(asking)
        (one,) = running._uvicorn.server_state.connections
        accepted = one.transport.get_extra_info("socket")  # type: ignore[union-attr]
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_more_descriptors_are_allowed_where_they_may_be(running: Listener) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft >= min(hard if hard > 0 else 65_536, 65_536)
