"""An engine in a process of its own: equal answers, a crash that costs only what was in flight, a rolling change."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from allmend.engines.apart.engine import ApartEngine
from allmend.engines.apart.wire import Answer, Cancel, Pieces, Submit
from allmend.engines.apart.worker import _Worker
from allmend.engines.text import Piece, Sampling, TextRequest, Usage
from allmend.serving.server import Server
from allmend.verbs.serve import start


@pytest.fixture(scope="module")
def apart(folders: Any) -> Iterator[Server]:
    """A server whose engine is in another process."""
    adapters = [f"{name}={folder}" for name, folder in folders.adapters.items()]
    options: dict[str, Any] = {"dtype": "float32", "memory": "64M"}
    with start(str(folders.base), adapter=adapters, port=0, isolate=True, **options) as running:
        yield running


@pytest.fixture
def http(apart: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=apart.url, timeout=120) as client:
        yield client


@pytest.fixture
def name(apart: Server) -> str:
    return apart.registry.bases()[0].name


def body(model: str, **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": "Tell me of the sea."}
    return {"model": model, "messages": [message], "max_tokens": 12, "temperature": 0, **more}


def engine_of(server: Server) -> ApartEngine:
    engine = server.registry.bases()[0].engine
    assert isinstance(engine, ApartEngine)
    return engine


def test_answers_are_those_of_an_engine_in_the_server(http: httpx.Client, server: Server, name: str) -> None:
    for model in (name, "mine", "yours"):
        for more in ({}, {"logprobs": True, "top_logprobs": 2}, {"n": 3, "temperature": 0.9, "seed": 7}):
            asked = body(model, **more)
            here = httpx.post(f"{server.url}/v1/chat/completions", json=asked, timeout=120).json()
            there = http.post("/v1/chat/completions", json=asked).json()
            assert there["choices"] == here["choices"] and there["allmend"] == here["allmend"]
            assert there["usage"]["completion_tokens"] == here["usage"]["completion_tokens"]


def test_what_is_wrong_is_told_as_ever(http: httpx.Client, name: str) -> None:
    for asked in (
        {"model": name, "prompt": [100_000]},
        {"model": name, "prompt": "x", "logit_bias": {"99999": 1}},
        {"model": name, "prompt": "x", "logit_bias": {"99999": 1}, "stream": True},
    ):
        answer = http.post("/v1/completions", json=asked)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_crash_fails_only_what_was_in_flight(http: httpx.Client, apart: Server, name: str) -> None:
    engine = engine_of(apart)
    before = engine.restarts
    long = {"max_tokens": 400, "ignore_eos": True, "n": 8, "temperature": 0.5}
    with http.stream("POST", "/v1/chat/completions", json=body(name, stream=True, **long)) as answer:
        lines = answer.iter_lines()
        while "content" not in next(lines):
            pass
        os.kill(engine.pid, signal.SIGKILL)
        rest = [line for line in lines if line.startswith("data: ")]
    failure = json.loads(rest[-1].removeprefix("data: "))["error"]
    assert failure["code"] == "engine_restarted"
    # Whoever asks while it starts again waits for that; adapters are back too.
    with ThreadPoolExecutor(4) as threads:
        asked = [body(model) for model in (name, "mine", "yours", name)]
        answers = list(threads.map(lambda each: http.post("/v1/chat/completions", json=each), asked))
    assert [each.status_code for each in answers] == [200] * 4
    assert engine.restarts == before + 1


def test_a_whole_answer_that_was_lost_may_be_asked_for_again(http: httpx.Client, apart: Server, name: str) -> None:
    engine = engine_of(apart)
    long = body(name, max_tokens=400, ignore_eos=True, n=8, temperature=0.5)
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(lambda: http.post("/v1/chat/completions", json=long))
        until = time.monotonic() + 60
        while not engine.load()[0] and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(engine.pid, signal.SIGKILL)
        answer = pending.result()
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "engine_restarted"
    assert answer.headers["x-should-retry"] == "true" and answer.headers["retry-after"]
    assert http.post("/v1/chat/completions", json=body(name)).status_code == 200


def test_a_model_changes_without_a_failed_request(http: httpx.Client, apart: Server, folders: Any, name: str) -> None:
    stop, statuses = threading.Event(), []

    def traffic() -> None:
        while not stop.is_set():
            asked = body(name, stream=True, max_tokens=30, ignore_eos=True)
            with http.stream("POST", "/v1/chat/completions", json=asked) as answer:
                lines = [line for line in answer.iter_lines() if line]
            statuses.append((answer.status_code, lines[-1]))

    old = engine_of(apart)
    threads = [threading.Thread(target=traffic) for _ in range(3)]
    for thread in threads:
        thread.start()
    answer = http.post("/v1/replace_model", json={"model": name, "path": str(folders.base)})
    counted = len(statuses)
    until = time.monotonic() + 60
    while len(statuses) < counted + 5 and time.monotonic() < until:
        time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    assert answer.status_code == 200 and answer.json()["adapters_gone"] == [], answer.text
    assert engine_of(apart) is not old and len(statuses) >= counted + 5
    assert set(statuses) == {(200, "data: [DONE]")}
    assert http.post("/v1/chat/completions", json=body("mine")).status_code == 200
    assert http.post("/v1/replace_model", json={"model": "nobody", "path": "x"}).status_code == 404
    while not old._closing and time.monotonic() < until:
        time.sleep(0.02)
    assert old._closing


def test_an_adapter_that_answered_can_be_taken_out(http: httpx.Client, apart: Server, folders: Any) -> None:
    where = str(folders.adapters["mine"])
    assert http.post("/v1/load_lora_adapter", json={"lora_name": "leaving", "lora_path": where}).status_code == 200
    assert http.post("/v1/chat/completions", json=body("leaving")).status_code == 200
    assert http.post("/v1/unload_lora_adapter", json={"lora_name": "leaving"}).status_code == 200
    assert "leaving" not in engine_of(apart).adapters()
    assert http.post("/v1/chat/completions", json=body("mine")).status_code == 200


def test_a_process_that_does_not_read_holds_up_nobody_else(http: httpx.Client, apart: Server, name: str) -> None:
    """More is said to it than the socket between them takes: the server goes on, and it answers when it can again."""
    engine = engine_of(apart)
    prompts = {"model": name, "prompt": [[number, *range(5, 100)] * 4 for number in range(5, 37)], "max_tokens": 1}
    os.kill(engine.pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(16) as threads:
            asked = [threads.submit(http.post, "/v1/completions", json={**prompts, "n": 8}) for _ in range(16)]
            until = time.monotonic() + 60
            while sum(engine.load()) < 64 and time.monotonic() < until:
                time.sleep(0.01)
            assert httpx.get(f"{apart.url}/health", timeout=60).status_code == 200
            os.kill(engine.pid, signal.SIGCONT)
            assert {each.result().status_code for each in asked} <= {200, 429}
    finally:
        os.kill(engine.pid, signal.SIGCONT)


def test_a_grammar_that_is_compiled_keeps_nobody_waiting() -> None:
    compiling, compiled, seen = threading.Event(), threading.Event(), []

    class Engine:
        context = 64

        def submit(self, request: Any, sink: Any) -> Any:
            if request.sampling.grammar is not None:
                compiling.set()
                assert compiled.wait(60)
            seen.append(request)
            ticket = SimpleNamespace(cancelled=False)
            ticket.cancel = lambda: sink(Piece(finish="cancelled", usage=Usage(1, 0)))
            return ticket

    ours, theirs = socket.socketpair()
    mine = Connection(ours.detach())
    worker = _Worker(Engine(), Connection(theirs.detach()))  # type: ignore[arg-type]
    running = threading.Thread(target=worker.run, daemon=True)
    running.start()
    try:
        mine.send(Submit(1, TextRequest((1,), Sampling(grammar="slow"))))
        assert compiling.wait(60)
        mine.send(Cancel(1))
        mine.send(Submit(2, TextRequest((2,))))
        assert mine.recv() == Answer(2)
        compiled.set()
        last = [mine.recv(), mine.recv()]
        assert Answer(1) in last and [each.pieces[0][1].finish for each in last if isinstance(each, Pieces)] == [
            "cancelled"
        ]
    finally:
        compiled.set()
        mine.close()
        running.join(60)


def test_an_adapter_whose_files_are_gone_after_a_crash_is_told_so(
    http: httpx.Client, apart: Server, folders: Any, tmp_path: Path
) -> None:
    engine = engine_of(apart)
    where = shutil.copytree(folders.adapters["mine"], tmp_path / "passing")
    assert http.post("/v1/load_lora_adapter", json={"lora_name": "passing", "lora_path": str(where)}).status_code == 200
    shutil.rmtree(where)
    before = engine.restarts
    os.kill(engine.pid, signal.SIGKILL)
    until = time.monotonic() + 120
    while not (engine.restarts > before and engine.is_up) and time.monotonic() < until:
        time.sleep(0.02)
    answer = http.post("/v1/chat/completions", json=body("passing"))
    assert answer.status_code >= 400 and "no adapter 'passing'" not in answer.text
    assert http.post("/v1/unload_lora_adapter", json={"lora_name": "passing"}).status_code == 200
    assert http.post("/v1/chat/completions", json=body("mine")).status_code == 200


def test_a_process_that_is_stopped_is_started_again_and_ends_with_its_server(folders: Any) -> None:
    options: dict[str, Any] = {"dtype": "float32", "memory": "16M", "hung_after": "15s"}
    with start(str(folders.base), port=0, isolate=True, **options) as server:
        engine, name = engine_of(server), server.registry.bases()[0].name
        os.kill(engine.pid, signal.SIGSTOP)
        # Nobody is kept waiting for it: what it had is told to be asked again, and is answered then.
        with httpx.Client(base_url=server.url, timeout=240) as http:
            first = http.post("/v1/chat/completions", json=body(name))
            assert first.status_code == 503 and first.json()["error"]["code"] == "engine_restarted"
            assert http.post("/v1/chat/completions", json=body(name)).status_code == 200
            assert http.get("/health").json() == {
                "status": "ok",
                "models": [name],
                "engines": [{"model": name, "state": "up", "restarts": 1}],
            }
            assert f'allmend_engine_restarts{{model="{name}"}} 1.0' in http.get("/metrics").text
            process = engine._process
    assert process.wait(timeout=60) is not None
