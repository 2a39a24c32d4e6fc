"""Looking at what was uploaded, as `allmend plan` does, beside the requests.

The files are written into a folder of their own: small ones whole, weights with their beginning and their end and a
hole between, so that headers, sizes and archives' listings are there and a terabyte is not. A process of its own reads
them, with bounds on memory and time; what it says is kept by the tree's name, so the same files are looked at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from allmend import database
from allmend.database.hub_repositories import hub_inspections, hub_refs
from allmend.database.once import put_once
from allmend.hub import commits, describing
from allmend.hub.contents import contents
from allmend.hub.looking import looking
from allmend.hub.objects import File

if TYPE_CHECKING:
    from allmend.hub.state import Hub

_SECONDS = 300
_WHOLE = 64 * 2**20
"""Files up to here are looked at whole."""
_HEAD, _TAIL = 16 * 2**20, 4 * 2**20
_MOST_FILES = 3000
_LARGEST = 16 * 2**30
"""Larger weights are listed, not looked at."""
_RELEASE_WHOLE = 2 * 2**30
"""A release up to here is verified byte by byte."""
_LOOKED_AT = (
    ".ipynb", ".py", ".sh", ".md", ".txt", ".json", ".jinja", ".toml", ".cfg", ".yaml", ".yml", ".safetensors", ".gguf",
    ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".npz", ".npy",
)  # fmt: skip


class Inspector:
    """Inspects trees one after the other."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def wake(self) -> None:
        """Begin, in the server's loop; what a server that was killed had not looked at comes first."""
        if self._task is None and not self._closed:
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._work())

    def want(self, commit: str) -> None:
        """Have a commit's files looked at; any thread may ask."""
        if self._loop is not None and not self._closed:
            self._loop.call_soon_threadsafe(self._waiting.put_nowait, commit)

    def close(self) -> None:
        """End; what was not looked at is looked at after the next start."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # The loop has ended, and the task with it.
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def _work(self) -> None:
        for commit in await asyncio.to_thread(_left):
            self._waiting.put_nowait(commit)
        while True:
            commit = await self._waiting.get()
            try:
                await self._inspect(commit)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if self._closed:
                    return
                await asyncio.to_thread(_fail, commit, f"it could not be looked at ({type(error).__name__})")

    async def _inspect(self, commit: str) -> None:
        found = await asyncio.to_thread(_listing, commit)
        if found is None:
            return
        tree, files = found
        with tempfile.TemporaryDirectory(prefix="inspect-", dir=self._hub.uploads) as name:
            folder = Path(name)
            skipped = await self._write(folder, files)
            body = await asyncio.to_thread(self._run, folder)
        body["not_looked_at"] = skipped
        await asyncio.to_thread(_keep, tree, body)

    async def _write(self, folder: Path, files: list[tuple[str, File]]) -> list[str]:
        """Write what is looked at; what is not is named."""
        skipped: list[str] = []
        whole = any(path == "release.json" for path, _ in files) and sum(f.size for _, f in files) <= _RELEASE_WHOLE
        wanted = [(path, file) for path, file in files if whole or path.lower().endswith(_LOOKED_AT)]
        for path, _ in wanted[_MOST_FILES:]:
            skipped.append(f"{path}: only the first {_MOST_FILES:,} files are looked at")
        for path, file in wanted[:_MOST_FILES]:
            if file.size > _LARGEST or not file.key:
                why = "it has not been fetched" if not file.key else "it is larger than what is looked at"
                skipped.append(f"{path}: {why}")
                continue
            target = folder / path
            await asyncio.to_thread(os.makedirs, target.parent, exist_ok=True)
            spans = [(0, file.size)] if whole or file.size <= _WHOLE else [(0, _HEAD), (file.size - _TAIL, file.size)]
            if len(spans) > 1:
                skipped.append(f"{path}: its beginning and its end were looked at, not what is between")
            await _write_spans(self._hub, target, file, spans)
        return skipped

    def _is_closed(self) -> bool:
        return self._closed

    def _run(self, folder: Path) -> dict[str, Any]:
        command = [sys.executable, "-m", "allmend.hub.inspection_process", str(folder)]
        if self._is_closed():
            raise RuntimeError("the hub is closing")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._process = process
        if self._is_closed():  # In this very moment: `close` has not seen it.
            process.kill()
        try:
            out, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return {"state": "failed", "why": f"looking at it took more than {_SECONDS} seconds"}
        finally:
            self._process = None
        if self._is_closed():
            raise RuntimeError("the hub is closing")
        try:
            body = json.loads(out)
        except ValueError:
            return {"state": "failed", "why": f"looking at it ended with code {process.returncode}"}
        return dict(body)


async def _write_spans(hub: Hub, target: Path, file: File, spans: list[tuple[int, int]]) -> None:
    with await asyncio.to_thread(target.open, "wb") as out:
        await asyncio.to_thread(out.truncate, file.size)
        for start, end in spans:
            await asyncio.to_thread(out.seek, start)
            async for chunk in contents(hub.store, file, start, end):
                await asyncio.to_thread(out.write, chunk)


def _left() -> list[str]:
    """Commits that main branches are at and whose files were not looked at."""
    with looking() as connection:
        rows = connection.execute(select(hub_refs.c.commit_id).where(hub_refs.c.name == "refs/heads/main")).all()
    return [row.commit_id for row in rows]


def _listing(commit: str) -> tuple[str, list[tuple[str, File]]] | None:
    """The tree and its files; None when it was looked at already."""
    with looking() as connection:
        tree = commits.load(connection, commit).tree
        seen = select(hub_inspections.c.tree_id).where(hub_inspections.c.tree_id == tree)
        if connection.execute(seen).first() is not None:
            return None
        return tree, list(describing.files_of(connection, tree))


def _keep(tree: str, body: dict[str, Any]) -> None:
    row = {"tree_id": tree, "created": time.time(), "body": json.dumps(body)}
    with database.writing() as connection:
        put_once(connection, hub_inspections, row)


def _fail(commit: str, why: str) -> None:
    try:
        with looking() as connection:
            tree = commits.load(connection, commit).tree
    except KeyError:
        return
    _keep(tree, {"state": "failed", "why": why})
