"""Bodies made from our own description of the API, right and wrong: never a failure, never another shape."""

from __future__ import annotations

import warnings
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from allmend.serving.server import Server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis

ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/unload_lora_adapter")
MORE = {
    "/v1/embeddings": "embed",
    "/v1/rerank": "embed",
    "/v1/moderations": "",
    "/v1/audio/speech": "embed",
    "/v1/batches": "",
    "/v1/vector_stores": "embed",
    "/v1/vector_stores/{store_id}/search": "",
    "/v1/vector_stores/{store_id}/files": "",
    "/v1/vector_stores/{store_id}/file_batches": "",
}
"""Routes beside text, and the kind of the model that is named in half of the bodies."""
MODE = schemathesis.GenerationMode


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("mode", [MODE.POSITIVE, MODE.NEGATIVE])
def test_no_body_makes_the_server_fail(server: Server, base: str, route: str, mode: Any) -> None:
    description = httpx.get(f"{server.url}/openapi.json", timeout=120).json()
    operation = schemathesis.openapi.from_dict(description)[route]["POST"]
    strategy = operation.as_strategy(generation_mode=mode)

    @settings(
        max_examples=15,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, known=st.booleans(), limit=st.integers(1, 4))
    def attempt(case: Any, known: bool, limit: int) -> None:
        body = case.body
        if isinstance(body, dict) and known and isinstance(body.get("model"), str):
            # Names out of thin air would all end at "no such model"; answers are kept short.
            body["model"] = base
            for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
                if isinstance(body.get(name), int) and body[name] > limit:
                    body[name] = limit
            if route != "/v1/responses":
                body.setdefault("max_tokens", limit)
            else:
                body.setdefault("max_output_tokens", limit)
        try:
            answer = httpx.post(f"{server.url}{route}", json=body, timeout=60)
        except (TypeError, ValueError):
            return  # What JSON cannot hold was never sent.
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    attempt()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("route", MORE)
@pytest.mark.parametrize("mode", [MODE.POSITIVE, MODE.NEGATIVE])
def test_no_body_makes_the_routes_beside_text_fail(more: Server, route: str, mode: Any) -> None:
    description = httpx.get(f"{more.url}/openapi.json", timeout=120).json()
    strategy = schemathesis.openapi.from_dict(description)[route]["POST"].as_strategy(generation_mode=mode)
    model = next((each.name for each in more.registry.services.all() if each.kind == MORE[route]), None)
    url = f"{more.url}{route}".replace("{store_id}", "notes")

    @settings(
        max_examples=12,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, known=st.booleans())
    def attempt(case: Any, known: bool) -> None:
        if isinstance(case.body, dict) and known and model and isinstance(case.body.get("model"), str):
            case.body["model"] = model
        try:
            answer = httpx.post(url, json=case.body, timeout=60)
        except (TypeError, ValueError):
            return  # What JSON cannot hold was never sent.
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    attempt()


@pytest.mark.parametrize("route", ["/v1/files", "/v1/audio/transcriptions", "/v1/audio/translations"])
@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\na\r\n--x--'),
        ("multipart/form-data; boundary=x", b"--x\r\n" * 2000),
        ("application/x-www-form-urlencoded", b"file=a&model=b&purpose=batch"),
    ],
)
def test_forms_that_are_none_are_refused(more: Server, route: str, kind: str, content: bytes) -> None:
    answer = httpx.post(f"{more.url}{route}", content=content, headers={"content-type": kind}, timeout=60)
    assert 400 <= answer.status_code < 500, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"1e999", b'{"model": 1}', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"NaN"],
)
@pytest.mark.parametrize("route", ROUTES)
def test_bytes_that_are_no_body_are_refused_in_the_same_shape(server: Server, route: str, content: bytes) -> None:
    answer = httpx.post(
        f"{server.url}{route}", content=content, headers={"content-type": "application/json"}, timeout=60
    )
    assert 400 <= answer.status_code < 500
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert httpx.get(f"{server.url}/health", timeout=120).status_code == 200
