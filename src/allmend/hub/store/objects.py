"""The folder or bucket where xorbs lie, through obstore.

An object is written once, under a name nobody else uses, and never changed: a killed writer leaves the old state or an
object that no table names, which the collection sweeps away when it is old enough.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from allmend.errors import InputError, Unavailable, UsageError
from allmend.hub.store.folder import FileWriter

_PART = 5 * 1024 * 1024
"""Held for each object being written to a bucket: the least that S3 takes as one part."""

_PAGE = 256 * 1024
"""Held for each object being written to a folder."""


class Objects:
    """Named objects in one folder or bucket.

    Args:
        place: a folder, or an address that obstore knows (`s3://BUCKET/PREFIX`, `gs://…`, `az://…`, `memory:///`);
            credentials and the endpoint come from the environment, as each provider's own tools read them.
    """

    def __init__(self, place: str | os.PathLike[str], **options: Any) -> None:
        text = os.fspath(place)
        self.folder: Path | None = None
        try:
            if "://" in text or text.startswith("memory:"):
                self.store: Any = obstore.store.from_url(text, **options)
            else:
                self.folder = Path(text).expanduser().absolute()
                self.folder.mkdir(parents=True, exist_ok=True)
                self.store = obstore.store.LocalStore(self.folder)
        except (BaseError, ValueError, OSError) as error:
            raise UsageError(f"objects cannot be kept there: {error}", where=text) from error

    def name(self, room: str) -> str:
        """A new name in `room`, never used before."""
        unique = secrets.token_hex(16)
        return f"{room}/{unique[:2]}/{unique}"

    async def put(self, name: str, data: bytes) -> None:
        """Write a whole small object; refuses to replace one."""
        try:
            await obstore.put_async(self.store, name, data, mode="create")
        except AlreadyExistsError as error:
            raise InputError("an object of that name is there already", where=name) from error
        except (BaseError, OSError) as error:
            raise Unavailable(f"the store cannot be written: {_words(error)}") from error

    def writer(self, name: str) -> Writer:
        """Write an object piece by piece; it is there, whole, after `close`, and not at all without it."""
        return Writer(self, name)

    async def read(self, name: str, start: int, end: int) -> memoryview:
        """The bytes from `start` to before `end`; raises `Unavailable` when they cannot be had."""
        try:
            return memoryview(await obstore.get_range_async(self.store, name, start=start, end=end))
        except (BaseError, OSError) as error:
            raise Unavailable(f"stored bytes cannot be read: {_words(error)}", where=name) from error

    async def remove(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        try:
            await obstore.delete_async(self.store, name)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise Unavailable(f"an object cannot be removed: {_words(error)}", where=name) from error

    async def old(self, room: str, before: float) -> AsyncIterator[tuple[str, int]]:
        """Name and length of every object in `room` that was last written before `before` (seconds since 1970)."""
        async for page in obstore.list(self.store, prefix=room):
            for entry in page:
                if entry["last_modified"].timestamp() < before:
                    yield entry["path"], entry["size"]

    def sweep_unfinished(self, before: float) -> int:
        """Remove what killed writers left half written in a folder, older than `before`; the bytes freed.

        In a bucket the provider's own rule for unfinished uploads does this.
        """
        freed = 0
        for path in self.folder.rglob("*#*") if self.folder else ():
            try:
                about = path.stat()
                if about.st_mtime < before:
                    path.unlink()
                    freed += about.st_size
            except FileNotFoundError:
                continue
        return freed


class Writer:
    """One object on its way in. In a bucket small ones are created in one conditional put, larger ones in parts."""

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects, self.name = objects, name
        self._pieces: list[bytes] = []
        self._held = 0
        self._room = _PAGE if objects.folder else _PART
        self._parts: Any = None
        self.file = FileWriter(objects.folder, name) if objects.folder else None
        """Where the object lies in a folder: a thread that has its bytes may write them there itself."""
        self._length = 0

    @property
    def length(self) -> int:
        """Bytes so far."""
        return self._held + self.file.length if self.file else self._length

    async def write(self, data: bytes) -> None:
        """Take the next bytes; holds a few megabytes of them at most."""
        self._pieces.append(data)
        self._held += len(data)
        self._length += len(data)
        if self._held >= self._room:
            await self._flush()

    async def _flush(self) -> None:
        data = b"".join(self._pieces)
        self._pieces, self._held = [], 0
        if self.file is not None:
            await asyncio.to_thread(self.file.write, data)
            return
        try:
            if self._parts is None:
                self._parts = obstore.open_writer_async(
                    self._objects.store, self.name, buffer_size=self._room, max_concurrency=1
                )
            await self._parts.write(data)
        except (BaseError, OSError) as error:
            raise Unavailable(f"the store cannot be written: {_words(error)}") from error

    async def close(self) -> None:
        """The object is whole: let it appear."""
        if self.file is not None:
            await self._flush()
            await asyncio.to_thread(self.file.close)
            return
        if self._parts is None:
            await self._objects.put(self.name, b"".join(self._pieces))
            self._pieces = []
            return
        if self._held:
            await self._flush()
        try:
            await self._parts.close()
        except (BaseError, OSError) as error:
            raise Unavailable(f"the store cannot be written: {_words(error)}") from error
        self._parts = None

    async def abandon(self) -> None:
        """Let it not appear; what was written of it goes."""
        self._pieces, self._parts = [], None
        if self.file is not None:
            await asyncio.to_thread(self.file.abandon)


def _words(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def now() -> float:
    """Seconds since 1970: the one clock of leases and ages."""
    return time.time()
