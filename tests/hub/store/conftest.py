from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from allmend.hub.cas import CasTokens
from allmend.hub.store import Store


@pytest.fixture(scope="session")
def cutter() -> None:
    """The compiled cutter, in the cache that all tests share."""
    from allmend.hub.store import gear_native

    gear_native.library()


@pytest.fixture(autouse=True)
def home(cutter: None, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder and a database of the test's own, and a client's cache."""
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    return own_home


@pytest.fixture(scope="session")
def bucket() -> Iterator[dict[str, str]]:
    """An S3-compatible server on a port of its own, with a bucket; options for `Store.open`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = {"access_key_id": "any", "secret_access_key": "any", "region": "us-east-1"}
    boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="any", aws_secret_access_key="any", region_name="us-east-1"
    ).create_bucket(Bucket="allmend")
    yield {"endpoint": endpoint, **keys}
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store in a folder, and one in a bucket."""
    if request.param == "folder":
        return Store.open(tmp_path / "store")
    options = request.getfixturevalue("bucket")
    return Store.open(f"s3://allmend/{tmp_path.name}", client_options={"allow_http": True}, **options)


@dataclass
class Cas:
    """A running server of the Xet routes, and what was asked of it."""

    url: str
    tokens: CasTokens
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path and length of each request's body."""

    def upload(self, *paths: Path) -> None:
        """Upload by the stock client."""
        import hf_xet

        token, expires = self.tokens.mint("some/repository", "write")
        session = hf_xet.XetSession()
        with session.new_upload_commit(endpoint=self.url, token=token, token_expiry_unix_secs=expires) as commit:
            for path in paths:
                commit.start_upload_file(str(path))

    def download(self, xet: str, size: int, path: Path) -> bytes:
        """Download by the stock client."""
        import hf_xet

        token, expires = self.tokens.mint("some/repository", "read")
        session = hf_xet.XetSession()
        group = session.new_file_download_group(endpoint=self.url, token=token, token_expiry_unix_secs=expires)
        with group:
            group.start_download_file(hf_xet.XetFileInfo(xet, size), str(path))
        return path.read_bytes()


@pytest.fixture
def serve() -> Iterator[Callable[..., Cas]]:
    """Starts the Xet routes over a store."""
    import uvicorn
    from fastapi import FastAPI

    from allmend.hub.cas import cas_router

    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(store: Store, **options: object) -> Cas:
        tokens = CasTokens(os.urandom(32))
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        cas = Cas(f"http://127.0.0.1:{listening.getsockname()[1]}", tokens)
        app = FastAPI()
        app.include_router(cas_router(store, tokens=tokens, **options))

        async def noting(scope, receive, send):
            if scope["type"] != "http":
                return await app(scope, receive, send)
            length = int(dict(scope["headers"]).get(b"content-length", b"0"))
            cas.asked.append((scope["method"], scope["path"], length))
            return await app(scope, receive, send)

        server = uvicorn.Server(uvicorn.Config(noting, log_level="critical", ws="none", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        running.append((server, thread))
        return cas

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(60)
