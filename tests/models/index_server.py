"""A package index on loopback that can be told to misbehave, and distribution files to put on it."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
import time
import zipfile
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from allmend.models.catalogue import Entry, PackagePart
from listening import running


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def wheel(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def sdist(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def part(path: Path, package: str, member: str, version: str = "1.0") -> PackagePart:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return PackagePart(
        package=package, version=version, file=path.name, sha256=digest, size=path.stat().st_size, member=member
    )


def entry(folder: Path, size: int = 300_000) -> tuple[Entry, bytes]:
    """A file in three parts, of two wheels and of an archive inside an sdist, with a licence; and its bytes."""
    folder.mkdir(exist_ok=True)
    pieces = [noise(size, 1), noise(size, 2), noise(1000, 3)]
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        info = tarfile.TarInfo("deep/part.bin")
        info.size = len(pieces[2])
        archive.addfile(info, io.BytesIO(pieces[2]))
    one = wheel(folder / "one_part-1.0-py3-none-any.whl", {"one/data/a.bin": pieces[0]})
    two = wheel(folder / "two_part-1.0-py3-none-any.whl", {"two/b.bin": pieces[1], "two/TERMS.txt": b"terms"})
    three = sdist(folder / "three_part-1.0.tar.gz", {"three_part-1.0/inner.tar.gz": inner.getvalue()})
    whole = b"".join(pieces)
    made = Entry(
        title="noise",
        file="noise.bin",
        size=len(whole),
        sha256=hashlib.sha256(whole).hexdigest(),
        licence="none",
        licence_file="TERMS.txt",
        parts=(
            part(one, "one-part", "one/data/a.bin"),
            part(two, "two-part", "two/b.bin"),
            part(three, "three-part", "three_part-1.0/inner.tar.gz!deep/part.bin"),
        ),
        notices=(part(two, "two-part", "two/TERMS.txt"),),
    )
    return made, whole


class Index(ThreadingHTTPServer):
    """PEP 503 pages and files of a folder."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.ranges = True
        self.cut_after: int | None = None
        """Send only so many bytes of a file, then close."""
        self.states_length = True
        self.seconds_a_chunk = 0.0
        self.corrupt = False
        self.status: int | None = None
        self.asked: list[tuple[str, str | None]] = []
        """(file, Range header) of every request for a file."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple/"


class Handler(BaseHTTPRequestHandler):
    server: Index

    def log_message(self, *words: Any) -> None:
        pass

    def do_GET(self) -> None:
        place = self.path.strip("/").split("/")
        if place[0] == "simple" and len(place) == 2:
            self.page(place[1])
        elif place[0] == "files" and (self.server.folder / place[-1]).is_file():
            self.file(self.server.folder / place[-1])
        else:
            self.send_error(404)

    def page(self, package: str) -> None:
        start = package.replace("-", "_")
        names = sorted(path.name for path in self.server.folder.iterdir() if path.name.startswith(start))
        if not names:
            self.send_error(404)
            return
        body = "".join(f'<a href="/files/{name}">{name}</a>' for name in names).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def file(self, path: Path) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append((path.name, wanted))
        if server.status:
            self.send_error(server.status)
            return
        content = path.read_bytes()
        if server.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start > len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.states_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:] if server.cut_after is None else content[start : start + server.cut_after]
        for place in range(0, len(body), 16384):
            self.wfile.write(body[place : place + 16384])
            if server.seconds_a_chunk:
                self.wfile.flush()
                time.sleep(server.seconds_a_chunk)
        self.close_connection = True

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client was killed, or had enough


def serving(folder: Path) -> AbstractContextManager[Index]:
    return running(Index(folder))
