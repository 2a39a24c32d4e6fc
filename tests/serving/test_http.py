"""What goes over the wire: bodies that are wrong, keys, hosts, clients that leave, a server that stops."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from allmend.errors import InputError, NotFound, Refused, Unavailable, UsageError
from allmend.serving.server import Server, bind, is_loopback
from allmend.verbs.serve import start


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=120) as client:
        yield client


def body(base: str, **more: Any) -> dict[str, Any]:
    return {"model": base, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, **more}


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        (b"{not json", {"content-type": "application/json"}, "invalid_json"),
        (b"", {"content-type": "application/json"}, None),
        (b"[1, 2]", {"content-type": "application/json"}, None),
        (b'{"model": "x"}', {"content-type": "text/plain"}, None),
        (b"\xff\xfe\x00", {"content-type": "application/json"}, None),
        (b'{"model": "x", "model"', {"content-type": "application/json"}, "invalid_json"),
        (b"[" * 20_000, {"content-type": "application/json"}, None),
    ],
)
def test_bodies_that_cannot_be_read_are_400(
    http: httpx.Client, content: bytes, headers: dict[str, str], code: str | None
) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        answer = http.post(path, content=content, headers=headers)
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["message"] and error["type"] == "invalid_request_error"
        assert code is None or error["code"] == code


HALF = "\ud83d"
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": HALF})}}
CALLED = "messages.0.tool_calls.0.function.arguments.a"


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": HALF}]}, "messages.0.content"),
        ("chat/completions", {"messages": [{"role": "user", "content": "a", "more": HALF}]}, "messages.0.more"),
        ("chat/completions", {"messages": [{"role": "assistant", "tool_calls": [CALL]}]}, CALLED),
        ("chat/completions", {"metadata": {HALF: "a"}}, "metadata"),
        ("chat/completions", {HALF: 1}, None),
        ("completions", {"prompt": ["a", HALF]}, "prompt.1"),
        ("responses", {"input": HALF}, "input"),
        ("embeddings", {"input": [HALF]}, "input.0"),
    ],
)
def test_half_of_a_surrogate_pair_is_400_and_named(
    http: httpx.Client, base: str, path: str, change: dict[str, Any], param: str | None
) -> None:
    given = {"model": base, **({"messages": [{"role": "user", "content": "a"}]} if "chat" in path else {}), **change}
    content = json.dumps(given)
    for encoding in ("utf-8", "utf-16"):
        answer = http.post(
            f"/v1/{path}", content=content.encode(encoding), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 400, answer.text
        assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("invalid_text", param)


def test_a_whole_surrogate_pair_is_text(http: httpx.Client, base: str) -> None:
    asked = {"model": base, "messages": [{"role": "user", "content": "\U0001f600"}], "max_tokens": 1}
    content = json.dumps(asked)
    assert "ud83d" in content
    answer = http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text


def test_calls_that_are_no_list_are_400(http: httpx.Client, base: str) -> None:
    wrong = {"role": "assistant", "content": "a", "tool_calls": 5}
    answer = http.post("/v1/chat/completions", json={"model": base, "messages": [wrong]})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "messages.0.tool_calls"


def test_unknown_routes_and_methods_say_so(http: httpx.Client) -> None:
    for method, path, status, code in (
        ("POST", "/v1/images/generations", 404, "unsupported_route"),
        ("POST", "/v1/evals", 404, "unsupported_route"),
        ("GET", "/v1/responses/resp_1", 404, "unsupported_route"),
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("GET", "/v1/models/nobody", 404, "model_not_found"),
    ):
        answer = http.request(method, path, json={} if method == "POST" else None)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_health_and_the_description_are_there(http: httpx.Client, base: str) -> None:
    assert http.get("/health").json() == {"status": "ok", "models": [base]}
    assert http.get("/ready").status_code == 200
    description = http.get("/openapi.json").json()
    answers = description["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert "422" not in answers and {"200", "400", "404"} <= set(answers)


def test_other_host_names_are_refused_without_a_key(http: httpx.Client) -> None:
    answer = http.get("/v1/models", headers={"host": "rebound.example:80"})
    assert answer.status_code == 403
    assert http.get("/v1/models", headers={"host": "localhost:1"}).status_code == 200


def test_events_are_what_the_specification_says(http: httpx.Client, base: str) -> None:
    with http.stream("POST", "/v1/chat/completions", json=body(base, stream=True)) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all("finish_reason" in event["choices"][0] for event in events)
    assert events[-1]["choices"][0]["finish_reason"] in ("stop", "length")


def running(server: Server) -> int:
    scheduler = server.registry.bases()[0].engine._scheduler  # type: ignore[attr-defined]
    return len(scheduler.running) + len(scheduler.waiting)


def wait_until_busy(server: Server) -> None:
    until = time.monotonic() + 60
    while not running(server) and time.monotonic() < until:
        time.sleep(0.002)
    assert running(server) > 0


def wait_until_idle(server: Server) -> None:
    until = time.monotonic() + 60
    while running(server) and time.monotonic() < until:
        time.sleep(0.02)
    assert running(server) == 0


LONG = {"max_tokens": 400, "ignore_eos": True, "temperature": 0.9, "seed": 1}


def test_a_client_that_leaves_a_stream_ends_the_work(http: httpx.Client, server: Server, base: str) -> None:
    for _ in range(20):  # On a busy machine all may be computed before anybody looks.
        with http.stream("POST", "/v1/chat/completions", json=body(base, stream=True, **LONG, n=16)) as answer:
            next(answer.iter_lines())
            left_working = running(server) > 0
        if left_working:
            break
    assert left_working
    wait_until_idle(server)
    assert running(server) == 0


def test_a_client_that_leaves_before_the_whole_answer_ends_the_work(server: Server, base: str) -> None:
    content = json.dumps(body(base, **LONG, n=64)).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        raw.sendall(head.encode() + content)
        wait_until_busy(server)
    wait_until_idle(server)
    assert running(server) == 0


def test_a_client_that_does_not_read_holds_nobody_up(http: httpx.Client, server: Server, base: str) -> None:
    content = json.dumps(body(base, stream=True, **LONG, n=16)).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        raw.sendall(head.encode() + content)
        for _ in range(3):
            assert http.post("/v1/chat/completions", json=body(base, max_tokens=5)).status_code == 200
        assert raw.recv(16).startswith(b"HTTP/1.1 200")
    wait_until_idle(server)


def test_a_key_is_asked_for_and_compared(folders: Any) -> None:
    with start(str(folders.base), port=0, api_key="s3cret", dtype="float32", memory="16M") as server:
        get = lambda **headers: httpx.get(f"{server.url}/v1/models", headers=headers, timeout=120)
        assert get().status_code == 401
        assert get(authorization="Bearer wrong").json()["error"]["code"] == "invalid_api_key"
        assert get(authorization="Bearer s3cret").status_code == 200
        assert httpx.get(f"{server.url}/health", timeout=120).status_code == 200


def test_a_server_that_stops_tells_those_it_leaves(folders: Any) -> None:
    server = start(str(folders.base), port=0, dtype="float32", memory="64M", context=512)
    name = server.registry.bases()[0].name
    with (
        httpx.Client(base_url=server.url, timeout=120) as client,
        client.stream("POST", "/v1/chat/completions", json=body(name, stream=True, **LONG, n=32)) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        server.close()
        rest = [line for line in lines if line]
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "shutting_down"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health", timeout=120)


def test_what_cannot_be_served_is_refused_before_loading(folders: Any, tmp_path: Any) -> None:
    model = str(folders.base)
    with pytest.raises(Refused, match="key"):
        start(model, host="0.0.0.0")
    with pytest.raises(UsageError, match="NAME=REF"):
        start(model, port=0, adapter=["no-equals-sign"])
    with pytest.raises(NotFound):
        start(model, port=0, adapter=["mine=./nowhere"])
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(InputError):
        start(model, port=0, adapter=[f"mine={tmp_path}"])
    with pytest.raises(UsageError, match="taken"):
        start(model, port=0, dtype="float32", adapter=[f"a={folders.adapters['mine']}"] * 2)


def test_a_port_in_use_names_a_free_one(server: Server) -> None:
    with pytest.raises(Unavailable) as caught:
        bind("127.0.0.1", server.port)
    assert str(server.port) in caught.value.message
    assert "--port 0" in (caught.value.hint or "")
    with pytest.raises(UsageError):
        bind("no.such.host.invalid", 0)


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("x", False)]
)
def test_loopback_is_told_from_the_rest(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_bodies_beyond_all_measure_are_413_and_long_prompts_400(http: httpx.Client, base: str) -> None:
    answer = http.post("/v1/completions", json={"model": base, "prompt": "x" * 2**20})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    answer = http.post("/v1/completions", json={"model": base, "prompt": "x" * (17 * 2**20)})
    assert answer.status_code == 413 and answer.json()["error"]["message"]

    def endless() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 2**20

    answer = http.post("/v1/completions", content=endless(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
