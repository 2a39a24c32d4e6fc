"""What a load balancer and an operator are told of engines that are not there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from allmend.engines.text import Piece, Restarting
from allmend.serving import running
from allmend.serving.app import create_app
from allmend.serving.faults import Fault, of_error
from allmend.serving.more import Kept
from allmend.serving.registry import Registry


def told(engines: list[Any], folder: Path, path: str) -> httpx.Response:
    registry = Registry()
    bases: Any = {f"m{place}": SimpleNamespace(name=f"m{place}", engine=each) for place, each in enumerate(engines)}
    registry._bases = bases
    transport = httpx.ASGITransport(create_app(registry, kept=Kept(folder=folder)))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path)

    return asyncio.run(ask())


def apart(*, is_up: bool, away: float = 0.0, restarts: int = 2) -> Any:
    return SimpleNamespace(is_up=is_up, away=away, restarts=restarts)


def test_an_engine_that_is_not_there_is_named(tmp_path: Path) -> None:
    here = SimpleNamespace()
    said = told([here, apart(is_up=True), apart(is_up=False), apart(is_up=False, away=7.5)], tmp_path, "/health")
    assert said.status_code == 200 and said.json() == {
        "status": "degraded",
        "models": ["m0", "m1", "m2", "m3"],
        "engines": [
            {"model": "m1", "state": "up", "restarts": 2},
            {"model": "m2", "state": "starting", "restarts": 2},
            {"model": "m3", "state": "failing", "restarts": 2, "retry_after": 7.5},
        ],
    }
    ended = told([SimpleNamespace(has_ended=True)], tmp_path, "/health").json()
    assert ended["status"] == "degraded" and ended["engines"][0]["state"] == "failing"


@pytest.mark.parametrize(
    ("engines", "status"),
    [
        ([apart(is_up=True)], 200),
        ([apart(is_up=False)], 200),  # In a moment; who comes waits for it.
        ([apart(is_up=False, away=7.5), apart(is_up=True)], 200),
        ([apart(is_up=False, away=7.5)], 503),
    ],
)
def test_nobody_is_sent_to_a_server_whose_engines_do_not_come_up(
    engines: list[Any], status: int, tmp_path: Path
) -> None:
    said = told(engines, tmp_path, "/ready")
    assert said.status_code == status
    if status == 503:
        assert said.json()["error"]["code"] == "engine_starting" and said.headers["retry-after"] == "8"


def test_who_is_refused_is_told_whether_it_is_worth_asking_again() -> None:
    later = of_error(Restarting("it starts", 0.2))
    assert (later.status, later.detail.code) == (503, "engine_starting")
    assert later.headers == {"retry-after": "1", "retry-after-ms": "1000", "x-should-retry": "true"}
    never = of_error(Restarting("it ended each time", None))
    assert (never.status, never.detail.code, never.headers) == (500, "engine_crashes", {"x-should-retry": "false"})
    absent: Fault = running._failure(Piece(finish="absent", error="x"))
    assert (absent.status, absent.detail.code) == (503, "engine_starting")
