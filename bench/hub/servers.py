"""The servers that are measured: `python servers.py KIND FD FOLDER`. Kinds:

store      the Xet routes and plain ranged GETs over a store in FOLDER
discard    takes every upload, looks at nothing, keeps nothing
prebuilt   answers reconstructions and bytes that were recorded before, from memory
sendfile   gives out one file by the system's sendfile
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from common import SECRET
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

Scope, Receive, Send = Any, Any, Any


async def answer(send: Send, status: int, body: bytes, kind: bytes = b"application/json") -> None:
    """A whole answer."""
    head = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def drained(receive: Receive) -> int:
    """Read a request's body and forget it; its length."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            return size


def store_app(place: Path) -> Any:
    from allmend.hub.cas import CasTokens, cas_router
    from allmend.hub.store import Store

    store = Store.open(place / "store")
    app = FastAPI()
    counted: dict[str, int] = {}

    @app.get("/asked")
    async def asked() -> dict[str, int]:
        told = dict(counted)
        counted.clear()
        return told

    @app.get("/plain/{xet}")
    async def plain(request: Request, xet: str) -> StreamingResponse:
        found = await store.stat(xet=xet)
        assert found is not None
        first, _, last = request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) + 1 if last else found.size, found.size)
        head = {"content-length": str(end - start)}
        return StreamingResponse(store.read(xet, start, end), 206, head)

    @app.put("/plain")
    async def put(request: Request) -> dict[str, Any]:
        stored = await store.put(request.stream())
        return {"xet": stored.xet, "size": stored.size}

    app.include_router(cas_router(store, tokens=CasTokens(SECRET)))

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("POST", "PUT"):
            length = int(dict(scope["headers"]).get(b"content-length", b"0"))
            kind = "/".join(scope["path"].split("/")[1:3])
            counted[kind] = counted.get(kind, 0) + length
        if scope["type"] == "http" and scope["path"].startswith("/v1/reconstructions/"):
            counted["reconstruction " + dict(scope["headers"]).get(b"range", b"").decode()] = 1
        await app(scope, receive, send)

    return counting


def discard_app(place: Path) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drained(receive)
        path = scope["path"]
        if "/xorbs/" in path:
            await answer(send, 200, b'{"was_inserted": true}')
        elif path == "/v1/shards":
            await answer(send, 200, b'{"result": 1}')
        else:
            await answer(send, 404, b"{}")

    return app


def prebuilt_app(place: Path) -> Any:
    recorded = json.loads((place / "recorded.json").read_text())
    bodies = {name: (place / "recorded" / name).read_bytes() for name in recorded["bytes"].values()}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drained(receive)
        path, query = scope["path"], scope["query_string"].decode()
        host = dict(scope["headers"])[b"host"].decode()
        if path.startswith("/v1/reconstructions/"):
            asked = dict(scope["headers"]).get(b"range", b"").decode()
            found = recorded["reconstructions"].get(f"{path} {asked}")
            text = json.dumps(found).replace("HOST", host).encode() if found else b"{}"
            await answer(send, 200 if found else 416, text)
        elif "/xorbs/" in path:
            first, last = (part.partition("=")[2] for part in query.split("&")[:2])
            body = bodies[recorded["bytes"][f"{path.split('/')[-1]} {first}-{last}"]]
            head = [(b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 206, "headers": head})
            for at in range(0, len(body), 1 << 18):  # as much as a socket takes at once: the fastest of several tried
                piece = body[at : at + (1 << 18)]
                await send({"type": "http.response.body", "body": piece, "more_body": at + (1 << 18) < len(body)})
        else:
            await answer(send, 404, b"{}")

    return app


def main() -> None:
    kind, fd, place = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    listening = socket.socket(fileno=fd)
    if kind == "sendfile":
        sendfile(listening, place / sys.argv[4])
        return
    import uvicorn

    app = {"store": store_app, "discard": discard_app, "prebuilt": prebuilt_app}[kind](place)
    config = uvicorn.Config(app, log_level="warning", ws="none", lifespan="off")
    uvicorn.Server(config).run(sockets=[listening])


def sendfile(listening: socket.socket, path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        while True:
            connection, _ = listening.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    piece = connection.recv(65536)
                    if not piece:
                        break
                    head += piece
                if not head.startswith(b"GET"):
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    continue
                first, last = 0, size - 1
                for line in head.decode().splitlines():
                    if line.lower().startswith("range: bytes="):
                        begin, _, end = line.partition("=")[2].partition("-")
                        first, last = int(begin), min(int(end or last), last)
                connection.sendall(
                    f"HTTP/1.1 206 Partial\r\nContent-Length: {last + 1 - first}\r\nConnection: close\r\n\r\n".encode()
                )
                at = first
                while at <= last:
                    at += os.sendfile(connection.fileno(), stream.fileno(), at, last + 1 - at)


if __name__ == "__main__":
    main()
