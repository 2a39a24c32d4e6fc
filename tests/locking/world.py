"""A world of its own for lock tests: one loopback server that everything reaches as its HTTP proxy.

It holds files by address, git repositories, a package index that tells upload times, and a model hub.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import tarfile
import zipfile
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from listening import running

STAMP = (2020, 1, 1, 0, 0, 0)


def wheel(name: str, version: str, code: str = "", needs: tuple[str, ...] = ()) -> tuple[str, bytes]:
    """A small pure wheel: (file name, bytes)."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    members = {
        f"{module}.py": code or f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {need}\n" for need in needs),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text.encode())}\n")
    members[f"{info}/RECORD"] = "".join(rows) + f"{info}/RECORD,,\n"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in members.items():
            archive.writestr(zipfile.ZipInfo(path, STAMP), text)
    return f"{module}-{version}-py3-none-any.whl", made.getvalue()


def project(name: str, version: str, needs: tuple[str, ...] = (), first: str = "") -> dict[str, str]:
    """The files of a source project that builds without fetching anything: its build backend lies in it.

    `first` is code that the build runs before anything else.
    """
    file, content = wheel(name, version, needs=needs)
    backend = (
        f"{first}\nimport base64, os\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        f"    with open(os.path.join(folder, {file!r}), 'wb') as out:\n"
        f"        out.write(base64.b64decode({base64.b64encode(content).decode()!r}))\n"
        f"    return {file!r}\n"
    )
    return {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend,
    }


def sdist(name: str, version: str, first: str = "") -> tuple[str, bytes]:
    """A source archive: (file name, bytes)."""
    made = io.BytesIO()
    members = {
        **project(name, version, first=first),
        "PKG-INFO": f"Metadata-Version: 1.2\nName: {name}\nVersion: {version}\n",
    }
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for path, text in members.items():
            info = tarfile.TarInfo(f"{name}-{version}/{path}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return f"{name}-{version}.tar.gz", made.getvalue()


class World(ThreadingHTTPServer):
    """Everything outside."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.files: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.status: dict[str, int] = {}
        self.index: dict[str, list[tuple[str, bytes, str | None]]] = {}
        """Package: (file, content, upload time)."""
        self.repositories: dict[str, Path] = {}
        self.asked: list[str] = []
        self.down = False

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def index_url(self) -> str:
        return f"{self.proxy}/simple/"

    def environment(self) -> dict[str, str]:
        """Variables under which pip, uv, git and httpx live in this world."""
        return {
            "http_proxy": self.proxy, "HTTP_PROXY": self.proxy, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1",
            "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": self.index_url, "PIP_EXTRA_INDEX_URL": self.index_url,
            "PIP_TRUSTED_HOST": f"127.0.0.1:{self.server_port}", "PIP_FIND_LINKS": str(self.folder / "no-links"), "HF_ENDPOINT": "http://hub.test",
            "XDG_CACHE_HOME": str(self.folder / "cache"), "UV_CACHE_DIR": str(self.folder / "uv"),
            "ALLMEND_HOME": str(self.folder / "home"),
        }  # fmt: skip

    def file(self, url: str, content: bytes, modified: str = "Wed, 01 Mar 2023 10:00:00 GMT") -> str:
        self.files[url] = (content, {"Last-Modified": modified})
        return hashlib.sha256(content).hexdigest()

    def package(self, name: str, version: str, uploaded: str | None = "2023-01-01T00:00:00Z", **more: Any) -> None:
        file, content = wheel(name, version, **more)
        self.index.setdefault(name, []).append((file, content, uploaded))

    def source(self, name: str, version: str, uploaded: str = "2023-01-01T00:00:00Z", first: str = "") -> None:
        file, content = sdist(name, version, first)
        self.index.setdefault(name, []).append((file, content, uploaded))

    def repository(self, url: str, files: dict[str, str], branch: str = "main") -> str:
        """A repository with one commit; returns the commit."""
        bare = self.folder / "repositories" / f"{len(self.repositories)}.git"
        git("init", "-q", "--bare", "-b", branch, str(bare))
        self.repositories[url] = bare
        return self.commit(url, files, branch=branch)

    def commit(self, url: str, files: dict[str, str], when: str = "2023-02-01T00:00:00Z", branch: str = "main") -> str:
        """One more commit on the default branch."""
        bare = self.repositories[url]
        work = self.folder / "work"
        subprocess.run(["rm", "-rf", str(work)], check=True)
        done = subprocess.run(["git", "clone", "-q", str(bare), str(work)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        for name, text in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_text(text)
        git("-C", str(work), "add", "-A")
        git("-C", str(work), "commit", "-qm", "more", when=when)
        git("-C", str(work), "push", "-q", "origin", f"HEAD:refs/heads/{branch}")
        return git("-C", str(work), "rev-parse", "HEAD").strip()

    def model(self, name: str, files: dict[str, bytes], commit: str = "c" * 40, kind: str = "models") -> None:
        """A hub repository: large files are told by SHA-256, small ones by git's digest."""
        siblings = []
        for path, content in sorted(files.items()):
            git_digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": git_digest}
            if len(content) > 100:
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            siblings.append(entry)
            group = "" if kind == "models" else "datasets/"
            self.file(f"http://hub.test/{group}{name}/resolve/{commit}/{path}", content)
        answer = {"sha": commit, "lastModified": "2023-02-03T00:00:00.000Z", "siblings": siblings}
        for revision in ("main", commit):
            self.file(f"http://hub.test/api/{kind}/{name}/revision/{revision}?blobs=true", json.dumps(answer).encode())


def git(*words: str, when: str = "2023-02-01T00:00:00Z") -> str:
    variables = {**os.environ, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when, "GIT_CONFIG_GLOBAL": os.devnull,
                 "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t",
                 "GIT_COMMITTER_EMAIL": "t@t"}  # fmt: skip
    return subprocess.run(["git", *words], env=variables, capture_output=True, text=True, check=True).stdout


class Handler(BaseHTTPRequestHandler):
    server: World

    def log_message(self, *words: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer(b"")

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def answer(self, body: bytes) -> None:
        url, world = self.path, self.server
        world.asked.append(url)
        if world.down:
            self.close_connection = True
            return
        if url in world.status:
            self.say(world.status[url], b"no")
        elif url in world.files:
            content, headers = world.files[url]
            self.say(200, content, headers)
        elif url.startswith("/"):
            self.page(urlsplit(url).path)
        else:
            for known, bare in world.repositories.items():
                for name in (known + ".git", known):
                    if url.startswith(name + "/"):
                        self.git(bare, url[len(name) :], body)
                        return
            self.say(404, b"nothing here")

    def page(self, path: str) -> None:
        parts = path.strip("/").split("/")
        found = self.server.index.get(parts[1]) if len(parts) > 1 else None
        if parts[0] == "files":
            for files in self.server.index.values():
                for name, content, _ in files:
                    if name == parts[1]:
                        self.say(200, content)
                        return
        if parts[0] != "simple" or found is None:
            self.say(404, b"no such package")
            return
        listed = [
            {"filename": name, "url": f"{self.server.proxy}/files/{name}", "size": len(content),
             "hashes": {"sha256": hashlib.sha256(content).hexdigest()}, **({"upload-time": when} if when else {})}
            for name, content, when in found
        ]  # fmt: skip
        page = {"meta": {"api-version": "1.1"}, "name": parts[1], "files": listed, "versions": []}
        self.say(200, json.dumps(page).encode(), {"Content-Type": "application/vnd.pypi.simple.v1+json"})

    def git(self, bare: Path, rest: str, body: bytes) -> None:
        path, _, query = rest.partition("?")
        variables = {**os.environ, "GIT_PROJECT_ROOT": str(bare.parent), "GIT_HTTP_EXPORT_ALL": "1",
                     "PATH_INFO": f"/{bare.name}{path}", "QUERY_STRING": query, "REQUEST_METHOD": self.command,
                     "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
                     "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                     "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")}  # fmt: skip
        done = subprocess.run(["git", "http-backend"], input=body, env=variables, capture_output=True, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.say(int(fields.pop("Status", "200").split()[0]), content, fields)

    def say(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def made(folder: Path) -> AbstractContextManager[World]:
    return running(World(folder))


def notebook(path: Path, *cells: str, **metadata: Any) -> Path:
    content = {
        "cells": [
            {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": cell}
            for cell in cells
        ],
        "metadata": metadata, "nbformat": 4, "nbformat_minor": 4,
    }  # fmt: skip
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
