"""A client's claims, held against the chunks that are here. What does not hold is refused, nothing of it kept."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import numpy as np

from allmend.errors import InputError, NotFound
from allmend.hub.store import hashes, ingest, reading, shards, tables, xorbs
from allmend.hub.store.objects import Objects, Writer
from allmend.hub.store.stored import Stored

_ROOM = 384 * 1024
"""Bytes of a xorb held at a time: more than the longest chunk, and small, since a client sends many xorbs at once."""

Allowed = Callable[[Sequence[Stored]], Awaitable[None]]
"""Asked with the files of a shard before they become known; raises to refuse them (a quota, say)."""


async def take_xorb(objects: Objects, name: str, body: AsyncIterator[bytes]) -> bool:
    """Take a xorb as it arrives; True when it is new.

    One that is here already is read off the line and dropped. Of a new one every chunk is unpacked and its name
    computed before the next is taken, and the xorb appears only if its own name is the one it was sent under. Raises
    `InputError` when anything does not hold; then nothing is stored.
    """
    expected = hashes.raw(name)
    if await asyncio.to_thread(tables.hold, [name]):
        async for _ in body:
            pass
        return False
    intake = _Intake(objects.writer(objects.name("xorbs")))
    try:
        async for piece in body:
            await intake.feed(piece)
        if await intake.finish() != expected:
            raise InputError("the xorb's chunks do not have the name it was sent under", where=name)
        await intake.writer.close()
    except BaseException:
        await intake.writer.abandon()
        raise
    writer, chunks = intake.writer, intake.reader.chunks
    new = await asyncio.to_thread(tables.add_xorb, name, writer.name, writer.length, xorbs.records(chunks))
    if not new:
        await objects.remove(writer.name)
    return new


class _Intake:
    """A xorb on its way in: gathered in one buffer; when that is full a thread checks it and writes it."""

    def __init__(self, writer: Writer) -> None:
        self.reader = xorbs.Reader()
        self.writer = writer
        self._room = np.empty(_ROOM, dtype=np.uint8).data
        self._filled = 0

    async def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        view = memoryview(piece)
        while len(view):
            count = min(len(view), _ROOM - self._filled)
            self._room[self._filled : self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]
            if self._filled == _ROOM:
                await self._step()

    async def _step(self) -> None:
        kept = await asyncio.to_thread(self._check)
        if kept:
            await self.writer.write(kept)

    def _check(self) -> bytes:
        """Check what is whole, and write it where that is a file; else it is given back to be written."""
        taken = self.reader.feed(self._room[: self._filled])
        kept = b""
        if self.writer.file is not None:
            self.writer.file.write(self._room[:taken])
        else:
            kept = bytes(self._room[:taken])
        rest = b"" if self.reader.ended else bytes(self._room[taken : self._filled])
        self._room[: len(rest)] = rest
        self._filled = len(rest)
        return kept

    async def finish(self) -> bytes:
        """The name of the whole."""
        await self._step()
        return await asyncio.to_thread(self.reader.finish, self._filled)


async def take_shard(
    objects: Objects, catalogue: reading.Catalogue, data: bytes, allowed: Allowed | None = None
) -> list[Stored]:
    """Take a shard: its files become known, all of them or none. Raises `InputError` when a claim does not hold."""
    shard = await asyncio.to_thread(shards.parse, data)
    used = {hashes.text(term.xorb) for file in shard.files for term in file.terms}
    # From here on the collection leaves these xorbs alone.
    if await asyncio.to_thread(tables.hold, used) != len(used):
        raise _missing()
    for xorb in shard.xorbs:
        await _check_xorb(catalogue, xorb)
    files = [(await _check_file(objects, catalogue, file), list(file.terms)) for file in shard.files]
    if allowed is not None:
        await allowed([stored for stored, _ in files])
    await ingest.known(files)
    return [stored for stored, _ in files]


def _missing() -> InputError:
    words = "the shard uses chunks that are not in this store (any more)"
    return InputError(words, hint="If this stays so, remove the client's xet cache (HF_XET_CACHE) and upload again.")


async def _check_xorb(catalogue: reading.Catalogue, claimed: shards.ClaimedXorb) -> None:
    try:
        xorb = await catalogue.xorb(hashes.text(claimed.hash))
    except NotFound:
        raise _missing() from None
    told, real = claimed.chunks, xorb.chunks
    if told["hash"].tobytes() != real["hash"].tobytes() or told["unpacked"].tobytes() != real["unpacked"].tobytes():
        raise InputError("a xorb does not hold the chunks that the shard says", where=xorb.hash)


async def _check_file(objects: Objects, catalogue: reading.Catalogue, claimed: shards.ClaimedFile) -> Stored:
    name = hashes.text(claimed.hash)
    if len(claimed.proofs) != len(claimed.terms):
        raise InputError("a file comes without the proof that its chunks are known to who sends it", where=name)
    chunks: list[tuple[bytes, int]] = []
    for term, proof in zip(claimed.terms, claimed.proofs, strict=True):
        xorb = await catalogue.xorb(hashes.text(term.xorb))
        if not 0 <= term.start < term.end <= len(xorb.chunks):
            raise InputError("a file uses chunks that its xorb does not have", where=name)
        rows = xorb.chunks[term.start : term.end]
        if hashes.range_hash(rows["hash"].tobytes()) != proof:
            raise InputError("the proof for a range of chunks is wrong", where=name)
        if int(rows["unpacked"].sum(dtype="int64")) != term.unpacked:
            raise InputError("a range of chunks is not as long as the shard says", where=name)
        chunks += zip(rows["hash"].tolist(), rows["unpacked"].tolist(), strict=True)
    if await asyncio.to_thread(hashes.file_hash, chunks) != claimed.hash:
        raise InputError("the file's chunks do not have its name", where=name)
    known = await asyncio.to_thread(lambda: tables.find(xet=name))
    if known is None:
        known = await _read_through(objects, catalogue, claimed, name)
    if claimed.sha256 is not None and hashes.text(claimed.sha256) != known.sha256:
        raise InputError("the file does not have the SHA-256 that the shard says", where=name)
    return known


async def _read_through(
    objects: Objects, catalogue: reading.Catalogue, claimed: shards.ClaimedFile, name: str
) -> Stored:
    # The SHA-256 is a second name under which others find the file, so it is computed, not believed. Where it was
    # claimed it is what these bytes are held against, and the chunks' own digests are not computed once more.
    digest, size = hashlib.sha256(), sum(term.unpacked for term in claimed.terms)
    async for data in reading.read(objects, catalogue, claimed.terms, 0, size, check=claimed.sha256 is None):
        # While one piece is hashed the next is fetched and unpacked.
        await asyncio.to_thread(digest.update, data)
    return Stored(name, digest.hexdigest(), size)
