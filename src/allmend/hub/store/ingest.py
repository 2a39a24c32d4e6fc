"""Bytes that came by any way but Xet: cut, compared with what is here, packed, and known as a file.

Work goes in blocks of a megabyte, so memory does not grow with the file; hashing and packing run in threads.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable

from allmend.errors import DoesNotFit, InputError, Unavailable
from allmend.hub.store import gear, hashes, tables, xorbs
from allmend.hub.store.objects import Objects, Writer
from allmend.hub.store.shards import Term
from allmend.hub.store.stored import Stored

_BLOCK = 1024 * 1024
_FULL = 60 * 1024 * 1024  # unpacked bytes after which a xorb is closed: below the protocol's 64 MiB


class Target:
    """A xorb that chunks of a file lie in; its name is known when it is closed."""

    def __init__(self, hash_: bytes | None = None) -> None:
        self.hash = hash_


Reference = tuple[Target, int, int]
"""Where a chunk is: xorb, place in it, unpacked length."""


class Packer:
    """Packs new chunks into xorbs, those of many files together, and says where each went."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._writer: Writer | None = None
        self._target = Target()
        self._chunks: list[xorbs.Packed] = []
        self._unpacked = 0
        self._seen: dict[bytes, tuple[Target, int]] = {}

    def where(self, name: bytes) -> tuple[Target, int] | None:
        """Where a chunk that this packer took lies."""
        return self._seen.get(name)

    async def add(self, chunk: xorbs.Packed, data: bytes) -> None:
        """Take a chunk that is not in the store yet."""
        if self._writer is None:
            self._writer = self._objects.writer(self._objects.name("xorbs"))
            self._target = Target()
        await self._writer.write(data)
        self._seen[chunk.hash] = (self._target, len(self._chunks))
        self._chunks.append(chunk)
        self._unpacked += chunk.unpacked
        if self._unpacked >= _FULL or len(self._chunks) >= xorbs.MOST_CHUNKS:
            await self.close()

    async def close(self) -> None:
        """Close the xorb that is open, if one is: its bytes are in the store before any table names it."""
        if self._writer is None:
            return
        writer, chunks, self._writer = self._writer, self._chunks, None
        self._chunks, self._unpacked = [], 0
        await writer.close()
        self._target.hash = hashes.tree_hash((chunk.hash, chunk.unpacked) for chunk in chunks)
        name = hashes.text(self._target.hash)
        if not await asyncio.to_thread(tables.add_xorb, name, writer.name, writer.length, xorbs.records(chunks)):
            await self._objects.remove(writer.name)

    async def abandon(self) -> None:
        """Let what is open not appear."""
        if self._writer is not None:
            await self._writer.abandon()
            self._writer = None


class Ingest:
    """One file on its way in: `feed` its bytes, then `finish`."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
        self._rest = bytearray()
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._names: list[tuple[bytes, int]] = []
        self._places: list[Reference] = []

    async def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._size += len(data)
        self._rest += data
        if len(self._rest) >= _BLOCK:
            await self._cut(last=False)

    async def _cut(self, last: bool) -> None:
        cut = await asyncio.to_thread(self._chunks, last)
        unknown = [name for name, _ in cut if self._packer.where(name) is None]
        known = await asyncio.to_thread(tables.known_chunks, unknown) if unknown else {}
        new = {name: data for name, data in cut if name not in known and self._packer.where(name) is None}
        packed = await asyncio.to_thread(lambda: [xorbs.pack(data, name) for name, data in new.items()])
        for chunk, data in packed:
            await self._packer.add(chunk, data)
        for name, data in cut:
            self._names.append((name, len(data)))
            here = self._packer.where(name)
            if here is not None:
                self._places.append((*here, len(data)))
            else:
                where, place = known[name]
                self._places.append((Target(hashes.raw(where)), place, len(data)))

    def _chunks(self, last: bool) -> list[tuple[bytes, bytes]]:
        block = bytes(self._rest)
        begin, found = 0, []
        for end in gear.cuts(block, last=last):
            chunk = block[begin:end]
            found.append((hashes.chunk_hash(chunk), chunk))
            begin = end
        self._sha256.update(memoryview(block)[:begin])
        del self._rest[:begin]
        return found

    async def finish(self) -> Stored:
        """Cut what is left; the file's names. It is known only after `tables.add_files` with `terms`."""
        await self._cut(last=True)
        xet = await asyncio.to_thread(hashes.file_hash, self._names)
        return Stored(hashes.text(xet), self._sha256.hexdigest(), self._size)

    def terms(self) -> list[Term]:
        """The ranges of chunks that make up the file; the packer must be closed."""
        return merged(self._places)


def merged(places: Iterable[Reference]) -> list[Term]:
    """Chunks one after the other as the fewest terms."""
    found: list[Term] = []
    for target, place, size in places:
        assert target.hash is not None
        last = found[-1] if found else None
        if last is not None and last.xorb == target.hash and last.end == place and last.unpacked + size < 1 << 32:
            found[-1] = Term(last.xorb, last.start, place + 1, last.unpacked + size)
        else:
            found.append(Term(target.hash, place, place + 1, size))
    return found


async def put(
    objects: Objects, chunks: AsyncIterator[bytes], *, sha256: str | None, size: int | None, most: int | None
) -> Stored:
    """See `Store.put`."""
    packer = Packer(objects)
    try:
        ingest = Ingest(packer)
        taken = 0
        async for data in chunks:
            taken += len(data)
            if size is not None and taken > size:
                raise InputError(f"more bytes came than the {size:,} that were announced")
            if most is not None and taken > most:
                raise DoesNotFit(f"the upload is longer than the {most:,} bytes that are left", hint="Free some room.")
            for at in range(0, len(data), _BLOCK):
                await ingest.feed(data[at : at + _BLOCK])
        stored = await ingest.finish()
        if size is not None and stored.size != size:
            raise InputError(f"{stored.size:,} bytes came, {size:,} were announced")
        if sha256 is not None and stored.sha256 != sha256.lower():
            raise InputError("the bytes are not those of the announced SHA-256", where=sha256[:80])
        await packer.close()
        await known([(stored, ingest.terms())])
        return stored
    finally:
        await packer.abandon()


async def put_many(objects: Objects, blobs: Iterable[bytes]) -> list[Stored]:
    """Small files, whole in memory, packed together: one object for all that is new."""
    packer = Packer(objects)
    try:
        files = []
        for blob in blobs:
            ingest = Ingest(packer)
            await ingest.feed(blob)
            files.append((await ingest.finish(), ingest))
        await packer.close()
        await known([(stored, ingest.terms()) for stored, ingest in files])
        return [stored for stored, _ in files]
    finally:
        await packer.abandon()


async def known(files: list[tuple[Stored, list[Term]]]) -> None:
    """Make files known, all or none; raises `Unavailable` when a xorb they need was collected meanwhile."""
    if not await asyncio.to_thread(tables.add_files, files):
        raise Unavailable("a part of this upload was just removed from the store", hint="Upload it once more.")
