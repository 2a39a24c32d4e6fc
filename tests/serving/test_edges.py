"""The ways in which HTTP clients write the same request, and pages that call from a browser."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import pytest

from allmend.errors import UsageError
from allmend.serving.edges import one_path, origins
from allmend.serving.server import Server
from allmend.verbs.serve import start


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/models", "/v1/models"),
        ("/v1/models/", "/v1/models"),
        ("//v1//chat///completions/", "/v1/chat/completions"),
        ("/v1//models/hub://host/owner/name", "/v1/models/hub://host/owner/name"),
        ("/v1/models//folder/model", "/v1/models//folder/model"),
        ("/", "/"),
        ("//", "/"),
    ],
)
def test_a_path_is_written_in_one_way(path: str, meant: str) -> None:
    assert one_path(path) == meant


def test_slashes_too_many_are_none(server: Server, base: str) -> None:
    body = json.dumps({"model": base, "prompt": "x", "max_tokens": 1})
    headers = {"content-type": "application/json"}
    for path in ("/v1/completions/", "/v1//completions", "//v1/completions"):
        # As it is: httpx would take the beginning of `//v1` for a host.
        url = httpx.URL(server.url).copy_with(raw_path=path.encode())
        assert httpx.post(url, content=body, headers=headers).status_code == 200, path
    assert httpx.get(f"{server.url}/v1/models/").json()["object"] == "list"
    assert httpx.get(f"{server.url}/v1/models/{base}").json()["id"] == base


def test_head_is_get_without_its_body(server: Server) -> None:
    for path in ("/health", "/v1/models"):
        whole, head = httpx.get(f"{server.url}{path}"), httpx.head(f"{server.url}{path}")
        assert head.status_code == 200 and head.content == b""
        assert head.headers["content-length"] == whole.headers["content-length"]
    form = {"data": {"purpose": "user_data"}, "files": {"file": ("a", b"x" * 1000)}}
    made = httpx.post(f"{server.url}/v1/files", timeout=120, **form).json()
    content = httpx.head(f"{server.url}/v1/files/{made['id']}/content")
    assert (content.status_code, content.headers["content-length"], content.content) == (200, "1000", b"")
    with httpx.Client(base_url=server.url) as client:  # The connection goes on.
        assert [client.head("/nothing").status_code, client.get("/health").status_code] == [404, 200]


def test_a_packed_body_is_refused_with_a_word(server: Server, base: str) -> None:
    body = gzip.compress(json.dumps({"model": base, "prompt": "x"}).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = httpx.post(f"{server.url}/v1/completions", content=body, headers=headers)
    assert answer.status_code == 415 and answer.json()["error"]["code"] == "unsupported_encoding"


def test_origins_are_read_as_browsers_write_them() -> None:
    given = ["https://App.example:443/", "http://127.0.0.1:3000", "http://[::1]:80", "app://obsidian.md"]
    assert origins(given, has_key=False) == (
        "https://app.example", "http://127.0.0.1:3000", "http://[::1]", "app://obsidian.md",
    )  # fmt: skip
    assert origins(["*"], has_key=True) == ("*",)
    for wrong in ("app.example", "https://", "https://a/path", "https://u@a", "https://a:b", "null", "https://[a", ""):
        with pytest.raises(UsageError, match="no origin"):
            origins([wrong], has_key=True)
    with pytest.raises(UsageError, match="without a key"):
        origins(["*"], has_key=False)


def test_pages_call_where_their_origin_is_named(folders: Any, server: Server) -> None:
    page, other = "https://app.example", "https://evil.example"
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    # Without --origin: pages of this machine are let through, those of others not, and browsers show none the answer.
    for mine in ("http://localhost:3000", "app://obsidian.md", "vscode-webview://1a2b", "tauri://localhost"):
        assert httpx.get(f"{server.url}/v1/models", headers={"origin": mine}).status_code == 200
    for origin in (other, "null", "https://localhost.evil.example", "https://[", "https://127.0.0.1.evil.example"):
        form = {"purpose": "user_data"}
        answer = httpx.post(
            f"{server.url}/v1/files", data=form, files={"file": ("a", b"x")}, headers={"origin": origin}
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin")
    assert httpx.options(f"{server.url}/v1/models", headers={"origin": other, **asks}).status_code == 403
    near = httpx.options(f"{server.url}/v1/models", headers={"origin": "http://localhost:3000", **asks})
    assert near.status_code == 405 and "--origin http://localhost:3000" in near.json()["error"]["message"]
    with start(str(folders.base), port=0, dtype="float32", memory="64M", api_key="secret", origin=[page]) as named:
        url = f"{named.url}/v1/models"
        allowed = httpx.options(url, headers={"origin": page, **asks})
        assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == page
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        near = httpx.options(url, headers={"origin": page, **asks, "access-control-request-private-network": "true"})
        assert near.headers["access-control-allow-private-network"] == "true"
        assert httpx.options(url, headers={"origin": other, **asks}).status_code == 400
        key = {"authorization": "Bearer secret"}
        for headers, status in (({**key, "origin": page}, 200), ({"origin": page}, 401)):
            answer = httpx.get(url, headers=headers)  # A page reads what was wrong, too.
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, page)
            assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-origin" not in httpx.get(url, headers={**key, "origin": other}).headers
