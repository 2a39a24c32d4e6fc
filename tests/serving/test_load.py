"""More requests than can be answered: places and estimates, refusals in time, fallbacks, deadlines, a graceful end."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from allmend.errors import UsageError
from allmend.serving import adapter_refs
from allmend.serving.server import Server
from allmend.verbs.serve import _fallbacks, start

ENDLESS = {"max_tokens": 100, "ignore_eos": True, "temperature": 0.9, "seed": 1}
LONG = {"max_tokens": 300, "ignore_eos": True, "temperature": 0.9, "seed": 1}


@pytest.fixture(scope="module")
def narrow(folders: Any) -> Iterator[Server]:
    """A server that computes two answers at once, whose adapter's fallback is no adapter."""
    adapters = [f"mine={folders.adapters['mine']}"]
    options: dict[str, Any] = {"dtype": "float32", "memory": "64M", "parallel": 2, "queue": 3, "wait": "1h"}
    with start(str(folders.base), adapter=adapters, port=0, **options) as running:
        yield running


@pytest.fixture
def http(narrow: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=narrow.url, timeout=120) as client:
        yield client


@pytest.fixture
def name(narrow: Server) -> str:
    return narrow.registry.bases()[0].name


def until_nobody_is_in(server: Server) -> None:
    """An answer's end can reach its client before the queue has heard of it."""
    base, until = server.registry.bases()[0], time.monotonic() + 60
    while server.desk.gate(base)._running or base.engine.load() != (0, 0):
        assert time.monotonic() < until
        time.sleep(0.01)


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, **more}


def test_the_place_is_told_in_headers_and_in_the_stream(http: httpx.Client, narrow: Server, name: str) -> None:
    # Held from inside, so that nothing comes free by itself.
    gate = narrow.desk.gate(narrow.registry.bases()[0])
    done = threading.Event()

    async def take() -> Any:
        return gate.enter("held", answers=2)

    async def give(place: Any) -> None:
        gate.leave(place)

    loop = narrow._uvicorn.servers[0].get_loop()
    place = asyncio.run_coroutine_threadsafe(take(), loop).result(60)
    lines: list[str] = []
    with http.stream("POST", "/v1/chat/completions", json=body(name, stream=True)) as answer:
        assert answer.headers["x-queue-place"] == "1" and float(answer.headers["x-queue-estimate"]) > 0
        for line in answer.iter_lines():
            lines.append(line)
            if line.startswith(": queue") and not done.is_set():
                done.set()
                asyncio.run_coroutine_threadsafe(give(place), loop).result(60)
    assert re.fullmatch(r": queue place=1 estimate=[0-9.]+s", lines[0])
    assert [line for line in lines if line][-1] == "data: [DONE]"
    at_once = http.post("/v1/chat/completions", json=body(name))
    assert at_once.headers["x-queue-place"] == "0"


def test_a_full_queue_refuses_and_says_when_to_come_again(http: httpx.Client, narrow: Server, name: str) -> None:
    ask = lambda _: http.post("/v1/chat/completions", json=body(name, **LONG))
    with ThreadPoolExecutor(30) as threads:
        answers = list(threads.map(ask, range(30)))
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "overloaded" and refused.json()["error"]["type"] == "server_busy"
    assert int(refused.headers["retry-after"]) >= 1 and int(refused.headers["x-queue-place"]) >= 1
    assert http.post("/v1/chat/completions", json=body(name)).status_code == 200


def test_a_deadline_that_cannot_be_met_is_told_at_once(http: httpx.Client, narrow: Server, name: str) -> None:
    ask = lambda _: http.post(
        "/v1/chat/completions", json=body(name, **LONG), headers={"x-request-deadline": "0.000001"}
    )
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(ask, range(6)))
    assert {answer.status_code for answer in answers} <= {200, 429, 408}
    assert http.post("/v1/chat/completions", json=body(name), headers={"x-request-deadline": "100"}).status_code == 200


def test_nothing_is_computed_beyond_a_deadline(http: httpx.Client, narrow: Server, name: str) -> None:
    endless = {"model": name, "prompt": [f"Number {number}" for number in range(64)], "n": 8, **ENDLESS}
    soon = {"x-request-deadline": "0.05"}
    until_nobody_is_in(narrow)
    answer = http.post("/v1/completions", json=endless, headers=soon)
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "deadline_exceeded")
    until_nobody_is_in(narrow)
    with http.stream("POST", "/v1/completions", json={**endless, "stream": True}, headers=soon) as streamed:
        lines = [line for line in streamed.iter_lines() if line]
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
    until_nobody_is_in(narrow)


@pytest.mark.parametrize("stream", [False, True])
def test_whose_deadline_comes_while_they_wait_is_never_computed(
    http: httpx.Client, narrow: Server, name: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    until_nobody_is_in(narrow)
    base = narrow.registry.bases()[0]
    gate, loop = narrow.desk.gate(base), narrow._uvicorn.servers[0].get_loop()
    asked: list[Any] = []
    monkeypatch.setattr(base.engine, "submit", lambda *given: asked.append(given))
    # The estimate must let it in, or it were refused at once.
    monkeypatch.setattr(gate, "estimate", lambda count: 0.0)

    async def take() -> Any:
        return gate.enter("held", answers=2)

    async def give(place: Any) -> None:
        gate.leave(place)

    place = asyncio.run_coroutine_threadsafe(take(), loop).result(60)
    try:
        answer = http.post(
            "/v1/chat/completions", json=body(name, stream=stream), headers={"x-request-deadline": "0.5"}
        )
    finally:
        asyncio.run_coroutine_threadsafe(give(place), loop).result(60)
    assert "deadline_exceeded" in answer.text and answer.status_code == (200 if stream else 408)
    assert asked == []


def test_a_fallback_answers_and_is_named(folders: Any) -> None:
    options: dict[str, Any] = {"dtype": "float32", "memory": "64M", "parallel": 1, "queue": 0}
    adapters = [f"mine={folders.adapters['mine']}"]
    import shutil

    other = folders.base.parent / "smaller"
    shutil.copytree(folders.base, other, dirs_exist_ok=True)
    models = [str(folders.base), str(other)]
    with start(models, adapter=adapters[:0], port=0, fallback=["tiny-llama=smaller"], **options) as server:
        first, second = (base.name for base in server.registry.bases())
        assert server.desk.fallbacks == {first: second}
        with ThreadPoolExecutor(8) as threads:
            ask = lambda _: httpx.post(f"{server.url}/v1/chat/completions", json=body(first, **LONG), timeout=120)
            answers = list(threads.map(ask, range(8)))
        # While an engine starts again after a crash, too.
        server.registry.bases()[0].engine.is_up = False  # type: ignore[attr-defined]
        meanwhile = httpx.post(f"{server.url}/v1/chat/completions", json=body(first), timeout=120)
        assert meanwhile.status_code == 200 and meanwhile.headers["x-fallback-from"] == first
        assert meanwhile.json()["allmend"]["base"] == second
    taken = [answer for answer in answers if answer.headers.get("x-fallback-from") == first]
    fell = [answer.json() for answer in taken if answer.status_code == 200]
    assert fell and {each["model"] for each in fell} == {second}
    assert {(each["allmend"]["base"], each["allmend"]["fallback_from"]) for each in fell} == {(second, first)}
    assert {answer.status_code for answer in answers} <= {200, 429}


@pytest.mark.parametrize(
    "wrong", ["tiny-llama=smal", "tiny-lama=tiny-llama", "tiny-llama=tiny-llama", "tiny-llama", "=x"]
)
def test_a_fallback_that_could_not_answer_is_told_at_the_start(narrow: Server, wrong: str) -> None:
    with pytest.raises(UsageError) as caught:
        _fallbacks([adapter_refs.split_fallback(wrong)], narrow.registry)
    assert caught.value.where == "--fallback"


def test_a_server_asked_to_end_lets_answers_finish_and_takes_no_more(folders: Any) -> None:
    server = start(str(folders.base), port=0, dtype="float32", memory="64M", context=512)
    name = server.registry.bases()[0].name
    ended: list[str] = []
    loop = server._uvicorn.servers[0].get_loop()

    def hold(more: int) -> None:
        """One more request under way, so that the end does not come before it was looked at."""

        async def change() -> None:
            server.desk.under_way += more

        asyncio.run_coroutine_threadsafe(change(), loop).result(60)

    hold(1)
    with (
        httpx.Client(base_url=server.url, timeout=60) as client,
        client.stream("POST", "/v1/chat/completions", json=body(name, stream=True, **LONG)) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        closing = threading.Thread(target=lambda: server.close(grace=120))
        closing.start()
        while not server.desk.draining:
            time.sleep(0.002)
        # Whoever comes now is told to go elsewhere, not left before a closed door.
        newcomer = httpx.post(f"{server.url}/v1/chat/completions", json=body(name), timeout=60)
        assert (newcomer.status_code, newcomer.json()["error"]["code"]) == (503, "shutting_down")
        assert newcomer.headers["retry-after"] and httpx.get(f"{server.url}/ready", timeout=60).status_code == 503
        hold(-1)
        ended = [line for line in lines if line]
        closing.join(60)
    assert ended[-1] == "data: [DONE]"
    assert json.loads(ended[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
