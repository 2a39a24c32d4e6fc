"""The outside world of a locked run: the locked files, clones and models, from the cache, and nothing else.

The box hands every connection here instead of dialling out (names lead to stand-in addresses), so a locked run is
offline whatever it tries; what is not in the lock is answered with 403 and put into the receipt.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import socketserver
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

from allmend.errors import AllmendError
from allmend.locking import certificates, git_server, hub, store
from allmend.nouns.lock import Lock, LockedRepository
from allmend.runs.alive import hold, is_alive, release

_STAND_IN = "192.88.98.1"
"""An address that passes for public and is never dialled."""
_BEGINS_WITHIN = 3600.0
"""Seconds between a run's folder and the lock that says that it runs, at most."""
Refusal = Callable[[str, str], None]
"""(address asked for, what to say about it)."""


def normal(url: str) -> str:
    """An address as requests carry it: no fragment, lower-case host, no default port, a path."""
    split = urlsplit(url)
    host = (split.hostname or "").lower()
    port = split.port
    if port is not None and (split.scheme, port) not in (("http", 80), ("https", 443)):
        host = f"{host}:{port}"
    return urlunsplit((split.scheme, host, unquote(split.path) or "/", split.query, ""))


class Upstream:
    """Serves one lock on two sockets of its own, plain and TLS; a context manager."""

    def __init__(self, lock: Lock) -> None:
        self.lock = lock
        self.refusal: Refusal = lambda url, why: None
        self.files = {normal(one.url): one for one in lock.downloads}
        self.repositories: dict[tuple[str, str], LockedRepository] = {
            (one.kind, one.name): one for one in lock.repositories
        }
        self.hub_hosts = {"huggingface.co", urlsplit(hub.endpoint()).hostname or ""}
        self.git: git_server.GitServer | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._making = threading.Lock()

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="allmend-up-"))
        self._held = hold(self.folder)
        self._servers: list[_Server] = []
        try:
            self._serve()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _serve(self) -> None:
        if self.lock.clones or any(one.commit for one in self.lock.packages):
            self.git = git_server.GitServer(self.lock, self.folder / "git")
        for name in ("plain", "tls"):
            server = _Server(str(self.folder / name), self, tls=name == "tls")
            threading.Thread(target=server.serve, daemon=True).start()
            self._servers.append(server)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        release(self._held)

    async def resolve(self, name: str, port: int) -> Sequence[tuple[str, int]]:
        """Every name leads here."""
        return [(_STAND_IN, port)]

    async def connect(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The box's way out, which stays on this machine."""
        return await asyncio.open_unix_connection(str(self.folder / ("tls" if port == 443 else "plain")))

    def context(self, name: str) -> ssl.SSLContext:
        """The TLS context of a host name, made once a run."""
        with self._making:
            if name not in self._contexts and len(self._contexts) < 500:
                self._contexts[name] = certificates.context(name)
            return self._contexts[name]

    def repository(self, path: str, host: str) -> tuple[LockedRepository, str, str] | None:
        """(repository, what is asked of it, the rest) of a hub's path; None for anything else."""
        if host not in self.hub_hosts:
            return None
        match = re.fullmatch(
            r"/(?P<api>api/)?(?P<kind>models/|datasets/)?(?P<name>[\w.-]+(?:/[\w.-]+)?)"
            r"(?:/(?P<verb>resolve|revision|tree)/(?P<revision>[^/]+)(?:/(?P<rest>.*))?)?",
            path,
        )
        if match is None:
            return None
        kind = "dataset" if match["kind"] == "datasets/" else "model"
        found = self.repositories.get((kind, match["name"]))
        if found is None:
            return None
        revision = unquote(match["revision"] or "main")
        if revision not in {found.commit, found.revision or "main", "main"}:
            return None
        return found, match["verb"] or "revision", match["rest"] or ""


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str, upstream: Upstream, *, tls: bool) -> None:
        self.upstream = upstream
        self.tls = tls
        super().__init__(path, _Handler)

    def serve(self) -> None:
        """Take connections until `stop`; `serve_forever` would look for its end only every so often."""
        while True:
            try:
                request, address = self.socket.accept()
            except OSError:
                return
            self.process_request(request, address)

    def stop(self) -> None:
        """Close at once; what is still being answered ends with its box."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.server_close()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """TLS is spoken in the connection's own thread: a slow client holds up nobody."""
        request.settimeout(600)
        if not self.tls:
            _Handler(request, ("box", 0), self)
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

        def choose(sock: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: object) -> int | None:
            try:
                sock.context = self.upstream.context((name or "nameless.invalid").lower())
            except (AllmendError, KeyError, ValueError):
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            return None

        context.set_servername_callback(choose)
        with context.wrap_socket(request, server_side=True) as secure:
            _Handler(secure, ("box", 0), self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that broke off or speaks nonsense is nobody's trouble but its own."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *words: Any) -> None:
        """Nothing: the box's record tells what was asked."""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_POST(self) -> None:
        self._answer(body=True)

    do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815

    def _answer(self, *, body: bool) -> None:
        upstream = self.server.upstream
        scheme = "https" if self.server.tls else "http"
        host = self.headers.get("Host", "").lower()
        path, _, query = self.path.partition("?")
        url = f"{scheme}://{host}{self.path}"
        if upstream.git is not None and upstream.git.owns(f"{scheme}://{host}{path}"):
            upstream.git.answer(self, f"{scheme}://{host}{path}", query)
            return
        if self.command in ("GET", "HEAD"):
            file = upstream.files.get(normal(url))
            if file is not None:
                self._file(file.sha256, body=body, modified=file.modified)
                return
            found = upstream.repository(unquote(path), host.partition(":")[0])
            if found is not None and self._hub(*found, body=body):
                return
        self._refuse(url)

    def _refuse(self, url: str) -> None:
        shown = re.sub(r"\?.*", "?…", url)[:500]
        why = "it is not in the lock, and a locked run fetches nothing else"
        if self.command not in ("GET", "HEAD"):
            why = f"a locked run sends nothing ({self.command})"
        self.server.upstream.refusal(shown, why)
        text = f"allmend: {shown}: {why}. Lock the notebook again, or run it without --locked.\n".encode()
        self.send_response(403)
        self._end([("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))])
        if self.command != "HEAD":
            self.wfile.write(text)

    def _end(self, headers: list[tuple[str, str]]) -> None:
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()

    def _file(self, sha256: str, *, body: bool, modified: str | None = None,
              more: Sequence[tuple[str, str]] = ()) -> None:  # fmt: skip
        path = store.checked(sha256)
        if path is None:
            text = b"allmend: the cache of this locked file is damaged or gone; run `allmend lock` to fetch it again.\n"
            self.server.upstream.refusal(self.path[:500], "its file in the cache is damaged or gone")
            self.send_response(502)
            self._end([("Content-Length", str(len(text)))])
            if body:
                self.wfile.write(text)
            return
        size = path.stat().st_size
        start, end = 0, size - 1
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and int(wanted[1]) < size:
            start, end = int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)
            self.send_response(206)
            more = [*more, ("Content-Range", f"bytes {start}-{end}/{size}")]
        else:
            self.send_response(200)
        headers = [("Content-Type", "application/octet-stream"), ("Content-Length", str(end - start + 1)),
                   ("Accept-Ranges", "bytes"), *more]  # fmt: skip
        if modified:
            headers.append(("Last-Modified", modified))
        if not any(name == "ETag" for name, _ in headers):
            headers.append(("ETag", f'"{sha256}"'))
        self._end(headers)
        if body:
            with path.open("rb") as stream:
                stream.seek(start)
                left = end - start + 1
                while left > 0 and (block := stream.read(min(left, 2**18))):
                    self.wfile.write(block)
                    left -= len(block)

    def _hub(self, repository: LockedRepository, verb: str, rest: str, *, body: bool) -> bool:
        """The few routes that the hub's own client asks for."""
        import json

        if verb == "resolve":
            file = next((one for one in repository.files if one.path == rest), None)
            if file is None:
                text = b"Entry not found"
                self.send_response(404)
                self._end([("X-Error-Code", "EntryNotFound"), ("X-Repo-Commit", repository.commit),
                           ("Content-Length", str(len(text)))])  # fmt: skip
                if body:
                    self.wfile.write(text)
                return True
            tag = file.git or file.sha256
            self._file(file.sha256, body=body, more=[("X-Repo-Commit", repository.commit), ("ETag", f'"{tag}"')])
            return True
        if verb == "tree":
            answer: Any = [
                {"type": "file", "path": one.path, "size": one.bytes, "oid": one.git or one.sha256[:40],
                 **({} if one.git else {"lfs": {"oid": one.sha256, "size": one.bytes, "pointerSize": 130}})}
                for one in repository.files
            ]  # fmt: skip
        else:
            answer = {
                "_id": "0", "id": repository.name, "modelId": repository.name, "sha": repository.commit,
                "private": False, "lastModified": repository.modified or "2020-01-01T00:00:00.000Z", "tags": [],
                "downloads": 0, "likes": 0, "siblings": [{"rfilename": one.path} for one in repository.files],
            }  # fmt: skip
        data = json.dumps(answer).encode()
        self.send_response(200)
        self._end([("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
        if body:
            self.wfile.write(data)
        return True


def free_of_leftovers() -> None:
    """Remove the folders of runs that were killed."""
    for folder in Path(tempfile.gettempdir()).glob("allmend-up-*"):
        try:
            about = folder.stat()
        except OSError:
            continue  # Its run has ended this moment.
        alive = is_alive(folder)
        if alive is None:  # It has no lock: that of a run which begins just now, or an old one.
            alive = time.time() - about.st_mtime < _BEGINS_WITHIN
        if not alive and about.st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
