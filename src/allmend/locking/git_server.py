"""Locked clones over git's own HTTP protocol: git's `http-backend` on a view of the cache in which each branch or tag
that the notebook names stands at its locked commit."""

from __future__ import annotations

import os
import shutil
import subprocess
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from allmend.locking import clones
from allmend.nouns.lock import Lock

_MOST_ASKED = 64 * 2**20
_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tbare = true
[uploadpack]
\tallowAnySHA1InWant = true
\tallowFilter = true
[http]
\treceivepack = false
\tgetanyfile = false
"""


class GitServer:
    """The views of a lock's repositories."""

    def __init__(self, lock: Lock, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.views: dict[str, str] = {}
        wanted: dict[str, dict[str, str]] = {}
        for clone in lock.clones:
            refs = wanted.setdefault(clone.url, {})
            if clone.branch:
                refs[f"refs/heads/{clone.branch}"] = clone.commit
            elif clone.ref and clone.ref != clone.commit:
                refs[f"refs/tags/{clone.ref}"] = clone.commit
            if clone.ref is None or "HEAD" not in refs or clone.ref == clone.commit:
                refs["HEAD"] = clone.commit
        for place, (url, refs) in enumerate(wanted.items()):
            self._view(folder / f"{place}.git", clones.repository(url), refs)
            self.views[url.lower()] = f"{place}.git"

    def _view(self, view: Path, cached: Path, refs: dict[str, str]) -> None:
        (view / "objects" / "info").mkdir(parents=True)
        (view / "refs" / "heads").mkdir(parents=True)
        (view / "objects" / "info" / "alternates").write_text(f"{cached / 'objects'}\n")
        (view / "config").write_text(_CONFIG)
        if (cached / "shallow").exists():
            shutil.copy(cached / "shallow", view / "shallow")
        head = refs.pop("HEAD")
        branch = next((name for name, commit in refs.items() if commit == head and "/heads/" in name), None)
        if branch is None:
            branch = "refs/heads/main"
            refs.setdefault(branch, head)
        (view / "HEAD").write_text(f"ref: {branch}\n")
        listed = "".join(f"{commit} {name}\n" for name, commit in sorted(refs.items()))
        (view / "packed-refs").write_text("# pack-refs with: sorted\n" + listed)

    def _split(self, address: str) -> tuple[str, str] | None:
        for ending in ("/info/refs", "/git-upload-pack"):
            if address.endswith(ending):
                url = address.removesuffix(ending).rstrip("/").removesuffix(".git").lower()
                if url in self.views:
                    return self.views[url], ending
        return None

    def owns(self, address: str) -> bool:
        """Whether an address (without its query) belongs to a locked clone."""
        return self._split(address) is not None

    def answer(self, request: BaseHTTPRequestHandler, address: str, query: str) -> None:
        """Hand a request to git as a CGI program (RFC 3875), and its answer back."""
        found = self._split(address)
        assert found is not None
        length = int(request.headers.get("Content-Length") or 0)
        body = _chunks(request) if "chunked" in request.headers.get("Transfer-Encoding", "") else b""
        body = body or request.rfile.read(min(length, _MOST_ASKED))
        variables = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": f"/{found[0]}{found[1]}",
            "QUERY_STRING": query,
            "REQUEST_METHOD": request.command,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=variables, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        status, headers = 200, []
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(": ")
            if name.lower() == "status":
                status = int(value.split()[0])
            elif name:
                headers.append((name, value))
        if not head:
            status, content = 500, done.stderr[-500:]
        request.send_response(status)
        for name, value in [*headers, ("Content-Length", str(len(content))), ("Connection", "close")]:
            request.send_header(name, value)
        request.close_connection = True
        request.end_headers()
        request.wfile.write(content)


def _chunks(request: BaseHTTPRequestHandler) -> bytes:
    data = b""
    while len(data) < _MOST_ASKED:
        size = int(request.rfile.readline(32).split(b";")[0] or b"0", 16)
        data += request.rfile.read(size)
        request.rfile.readline(8)
        if size == 0:
            break
    return data
