"""The store: one object over its rooms. Methods are safe to call at once from many tasks and many processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from allmend import database as databases
from allmend.errors import DoesNotFit, NotFound, UsageError
from allmend.hub.store import collect, ingest, reading, register, shards, tables
from allmend.hub.store.collect import Collected
from allmend.hub.store.objects import Objects
from allmend.hub.store.stored import Stored

SMALL = 64 * 1024 * 1024
"""The longest file that `read_small` holds in memory."""


class Store:
    """Content-addressed files over a folder or bucket and the database. Make one with `Store.open`."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.catalogue = reading.Catalogue()

    @classmethod
    def open(cls, place: str | os.PathLike[str], *, database: str | None = None, **options: Any) -> Store:
        """Open a store, making its folder and tables if they are not there.

        Args:
            place: a folder, or `s3://BUCKET/PREFIX` and what else obstore knows.
            database: only a check: the address that is in use (`ALLMEND_DATABASE`, or allmend's own file).
            options: passed to obstore (`endpoint`, `access_key_id`, … instead of the environment).

        Raises `UsageError` for a place that cannot be used.
        """
        if database is not None and database != databases.address():
            raise UsageError("the store uses allmend's database", where=database, hint="Set ALLMEND_DATABASE to it.")
        store = cls(Objects(place, **options))
        tables.hold(())
        return store

    async def put(
        self,
        chunks: AsyncIterator[bytes],
        *,
        sha256: str | None = None,
        size: int | None = None,
        most: int | None = None,
    ) -> Stored:
        """Take a file that comes as plain bytes. What of it is here already is not stored again.

        Args:
            chunks: its bytes, in pieces of any length.
            sha256: what its SHA-256 must be.
            size: what its length must be; more is refused as soon as it comes.
            most: bytes that it may have (a quota).

        Raises `InputError` when it is not what was announced, `DoesNotFit` beyond `most`. Then nothing is known of it.
        """
        return await ingest.put(self.objects, chunks, sha256=sha256, size=size, most=most)

    async def put_small(self, data: bytes) -> Stored:
        """Take a small file that is in memory."""
        return (await self.put_many([data]))[0]

    async def put_many(self, blobs: Iterable[bytes]) -> list[Stored]:
        """Take many small files at once: all that is new in them becomes one object."""
        return await ingest.put_many(self.objects, blobs)

    async def read_small(self, xet: str) -> bytes:
        """A small file, whole; raises `NotFound`, or `DoesNotFit` for one longer than 64 MiB."""
        stored = await self.stat(xet=xet)
        if stored is None:
            raise NotFound("there is no such file in the store", where=xet)
        if stored.size > SMALL:
            raise DoesNotFit(f"the file has {stored.size:,} bytes, too many to hold in memory", where=xet)
        return b"".join([data async for data in self.read(xet)])

    async def stat(self, *, sha256: str | None = None, xet: str | None = None) -> Stored | None:
        """A file by either name, or None. Its lease is renewed: for the grace time a commit may refer to it."""
        if (sha256 is None) == (xet is None):
            raise TypeError("give sha256 or xet")
        return await asyncio.to_thread(lambda: tables.find(xet=xet, sha256=sha256, renew=True))

    async def read(self, xet: str, start: int = 0, end: int | None = None) -> AsyncIterator[memoryview]:
        """The bytes of a file from `start` to before `end`, rebuilt and verified, in pieces of a few megabytes.

        Raises `NotFound`; `InputError` when stored bytes are not what was written (nothing wrong is ever given out).
        """
        found = await asyncio.to_thread(tables.terms, xet)
        if found is None:
            raise NotFound("there is no such file in the store", where=xet)
        size, terms = found
        stop = size if end is None else min(end, size)
        if start < stop:
            async for data in reading.read(self.objects, self.catalogue, terms, max(0, start), stop):
                yield data

    async def used(self, files: Iterable[str]) -> int:
        """The bytes of these files, by Xet name, each counted once: what a quota is held against."""
        names = list(files)
        return await asyncio.to_thread(tables.sizes, names)

    async def collect(
        self,
        keep: Callable[[], AsyncIterator[str]],
        *,
        grace: float = collect.GRACE,
        unfinished: float = collect.UNFINISHED,
    ) -> Collected:
        """Take away what no commit reaches.

        Args:
            keep: gives the Xet name of every file that any commit reaches. It is called once, after the candidates
                were listed.
            grace: seconds since something was last uploaded, found or referred to in which it is left alone.
            unfinished: seconds after which an object no table names is a killed writer's.
        """
        return await collect.collect(self.objects, keep, grace=grace, unfinished=unfinished)

    async def take_xorb(self, name: str, body: AsyncIterator[bytes]) -> bool:
        """Take a client's xorb; see `register.take_xorb`."""
        return await register.take_xorb(self.objects, name, body)

    async def take_shard(self, data: bytes, allowed: register.Allowed | None = None) -> list[Stored]:
        """Take a client's shard; see `register.take_shard`."""
        return await register.take_shard(self.objects, self.catalogue, data, allowed)

    async def terms(self, xet: str) -> tuple[int, Sequence[shards.Term]] | None:
        """A file's length and its ranges of chunks; None when it is not here."""
        return await asyncio.to_thread(tables.terms, xet)
