"""A notebook's own web server: its own origin, its own token, HTTP and websockets, and nothing of the page within reach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from allmend.verbs.app import AppServer

PATIENCE = 120


@pytest.fixture(scope="module")
def server(serving: AppServer) -> AppServer:
    """The one that serves a page of its own."""
    return serving


@pytest.fixture(scope="module")
def run(server: AppServer) -> Iterator[str]:
    """A run whose web server is open."""
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        found = client.post("/runs", json={}).json()["id"]
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            shown = client.get(f"/runs/{found}").json()
            if shown["state"] == "serving" and shown["servers"]:
                break
            assert shown["state"] in ("queued", "running", "serving"), shown
            time.sleep(0.1)
        yield str(found)


def _opened(server: AppServer, run: str) -> httpx.Client:
    """A browser that followed the link: cookies of the server's own name."""
    with httpx.Client(base_url=server.url, timeout=120) as page:
        port = page.get(f"/runs/{run}").json()["servers"][0]
        link = httpx.URL(page.post(f"/runs/{run}/servers/{port}/link").json()["url"])
    assert link.host.startswith("run-")
    assert link.host.endswith(".localhost")
    # This machine's resolver may not know names below localhost, as browsers do.
    client = httpx.Client(base_url=server.url, headers={"Host": f"{link.host}:{link.port}"}, timeout=PATIENCE)
    entered = httpx.get(
        server.url.rstrip("/") + link.raw_path.decode(), headers={"Host": client.headers["Host"]}, timeout=120
    )
    assert entered.status_code == 303
    client.headers["Cookie"] = entered.headers["set-cookie"].partition(";")[0]
    used = httpx.get(
        server.url.rstrip("/") + link.raw_path.decode(), headers={"Host": client.headers["Host"]}, timeout=120
    )
    assert used.status_code == 401
    return client


def test_it_streams_and_sees_neither_our_cookie_nor_sets_one_for_others(server: AppServer, run: str) -> None:
    with _opened(server, run) as client:
        client.headers["Cookie"] += "; own=1"
        answer = client.post("/echo?a=1", content=b"x" * 300_000)
        seen = answer.json()
        assert seen["length"] == 300_000
        assert seen["path"] == "/echo?a=1"
        assert seen["cookie"] == "own=1"
        assert seen["host"] == client.headers["Host"]
        assert "domain" not in answer.headers["set-cookie"].lower()
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "evil" not in str(answer.headers)
        with client.stream("GET", "/slow") as slow:
            assert next(slow.iter_text()) == "first\n"


def test_without_its_cookie_or_from_another_site_nothing_passes(server: AppServer, run: str) -> None:
    with _opened(server, run) as client:
        host = client.headers["Host"]
        assert httpx.get(server.url, headers={"Host": host}, timeout=120).status_code == 401
        assert client.get("/", headers={"Origin": "http://other.example"}).status_code == 403
        crossed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        assert client.get("/", headers=crossed).status_code == 403
        unknown = {"Host": f"run-0000.localhost:{host.partition(':')[2]}"}
        assert client.get("/", headers=unknown).status_code == 404
        # And the page is no site that the notebook's server may speak to.
        asked = {"Host": httpx.URL(server.url).netloc.decode(), "Origin": f"http://{host}", "Cookie": ""}
        assert client.post("/runs", json={}, headers=asked).status_code == 403
        assert client.get("/runs", headers=asked | crossed).status_code == 403


def test_websockets_go_both_ways_and_only_from_its_own_page(server: AppServer, run: str) -> None:
    with _opened(server, run) as client:
        host, cookie = client.headers["Host"], client.headers["Cookie"]

    async def talk() -> None:
        port = httpx.URL(server.url).port
        where: dict[str, Any] = {"host": "127.0.0.1", "port": port, "proxy": None}
        own, headers = Origin(f"http://{host}"), {"Cookie": cookie}
        async with connect(f"ws://{host}/ws", origin=own, additional_headers=headers, **where) as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello back"
            await ws.send(b"\0\1")
            assert await ws.recv() == b"\1\0"
        tried: list[tuple[Origin, dict[str, str]]] = [(Origin("http://other.example"), headers), (own, {})]
        for origin, sent in tried:
            with pytest.raises(InvalidStatus):
                async with connect(f"ws://{host}/ws", origin=origin, additional_headers=sent, **where):
                    pass

    asyncio.run(talk())


def test_the_notebook_is_told_its_address_and_the_next_run_begins_meanwhile(server: AppServer, run: str) -> None:
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        text = "".join(e for e in client.get(f"/runs/{run}/cells/2").text)
        assert "http://run-" in text
        assert ".localhost" in text
        assert "token=" not in text
        others = [client.post("/runs", json={}).json()["id"] for _ in range(2)]
        for other in others:
            until = time.monotonic() + PATIENCE
            while client.get(f"/runs/{other}").json()["state"] != "serving" and time.monotonic() < until:
                time.sleep(0.1)
            assert client.get(f"/runs/{other}").json()["state"] == "serving"
            client.post(f"/runs/{other}/cancel")
            until = time.monotonic() + PATIENCE
            while client.get(f"/runs/{other}").json()["state"] == "serving" and time.monotonic() < until:
                time.sleep(0.1)
            assert client.get(f"/runs/{other}").json()["state"] == "finished"
            assert client.get(f"/runs/{other}").json()["servers"] == []


def test_a_run_writes_its_server_into_the_receipt(server: AppServer, run: str) -> None:
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        client.post(f"/runs/{run}/cancel")
        until = time.monotonic() + PATIENCE
        while client.get(f"/runs/{run}").json()["state"] == "serving" and time.monotonic() < until:
            time.sleep(0.1)
        told = client.get(f"/runs/{run}/receipt").json()
        assert told["ended"] == "finished"
        assert any("address of its own" in (event.get("detail") or "") for event in told["events"])
