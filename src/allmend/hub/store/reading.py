"""A file, or a range of it, put together from its chunks; every byte is held against its digest on the way out."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from allmend.errors import InputError, NotFound, Unavailable
from allmend.hub.store import folder as local
from allmend.hub.store import hashes, tables, xorbs
from allmend.hub.store.objects import Objects
from allmend.hub.store.shards import Term

_PIECE = 1024 * 1024
"""Packed bytes fetched and handed out at a time; the next piece is fetched and verified while this one is sent."""


class Catalogue:
    """The last xorbs that were looked up: their records do not change as long as they are there."""

    def __init__(self, room: int = 64) -> None:
        self._kept: OrderedDict[str, tables.Xorb] = OrderedDict()
        self._room = room

    async def xorb(self, name: str) -> tables.Xorb:
        """A xorb's record; raises `NotFound`."""
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        found = await asyncio.to_thread(tables.xorb, name)
        if found is None:
            raise NotFound("a part of the file is not in the store", where=name)
        self._kept[name] = found
        while len(self._kept) > self._room:
            self._kept.popitem(last=False)
        return found

    def forget(self, name: str) -> None:
        """Look it up anew next time."""
        self._kept.pop(name, None)


_MOST_PLACES = 500
"""Chunks read in one call, each to two places: systems take 1,024 of them."""


@dataclass(frozen=True)
class Piece:
    """Consecutive chunks of a xorb that are fetched together: `start` to before `end`."""

    xorb: tables.Xorb
    start: int
    end: int

    @property
    def rows(self) -> xorbs.Records:
        """The records of its chunks."""
        return self.xorb.chunks[self.start : self.end]

    @property
    def span(self) -> tuple[int, int]:
        """Its packed bytes in the object: from, to before."""
        return _begin(self.xorb, self.start), int(self.xorb.ends[self.end - 1])


def _begin(xorb: tables.Xorb, place: int) -> int:
    return int(xorb.ends[place - 1]) if place else 0


def pieces(xorb: tables.Xorb, start: int, end: int) -> list[Piece]:
    """Chunks `start` to before `end` of a xorb in pieces of about a megabyte."""
    if not 0 <= start < end <= len(xorb.chunks):
        raise InputError("a range of chunks is not in the xorb", where=xorb.hash)
    found, at = [], start
    while at < end:
        # At least one chunk, and as many as fit.
        stop = int(np.searchsorted(xorb.ends, _begin(xorb, at) + _PIECE, side="right"))
        stop = min(end, max(at + 1, stop))
        found.append(Piece(xorb, at, stop))
        at = stop
    return found


async def packed(objects: Objects, catalogue: Catalogue, parts: Sequence[Piece]) -> AsyncIterator[memoryview]:
    """The packed bytes of `parts`, held against their digests."""
    async for data in _prepared(objects, catalogue, parts, _checked):
        yield data


def _checked(piece: Piece, folder: Path | None, data: memoryview | None) -> memoryview:
    data = _fetched(piece, folder) if data is None else data
    for _ in xorbs.split(data, piece.rows):
        pass
    return data


def _fetched(piece: Piece, folder: Path | None) -> memoryview:
    assert folder is not None
    start, end = piece.span
    room = _room(end - start)
    local.read(folder, piece.xorb.object, start, [room])
    return room


def _room(size: int) -> memoryview:
    # Not a bytearray: that would be filled with zeros first.
    return np.empty(size, dtype=np.uint8).data


def _unpacked(piece: Piece, folder: Path | None, data: memoryview | None, *, check: bool) -> memoryview:
    if folder is not None and len(piece.rows) <= _MOST_PLACES and xorbs.all_raw(piece.rows):
        return _raw(piece, folder, check)
    data = _fetched(piece, folder) if data is None else data
    plain = b"".join([xorbs.unpack(one) for one in xorbs.split(data, piece.rows, check=check)])
    if len(plain) != int(piece.rows["unpacked"].sum(dtype=np.int64)):
        raise InputError("stored bytes are not what was written: the store is damaged")
    return memoryview(plain)


def _raw(piece: Piece, folder: Path, check: bool) -> memoryview:
    """Chunks that are not compressed, read from a folder right to where they belong, their headers beside them."""
    lengths = piece.rows["unpacked"].tolist()
    plain, heads = _room(sum(lengths)), _room(xorbs.HEADER * len(lengths))
    into, at = [], 0
    for index, length in enumerate(lengths):
        into += [heads[xorbs.HEADER * index : xorbs.HEADER * (index + 1)], plain[at : at + length]]
        at += length
    local.read(folder, piece.xorb.object, piece.span[0], into)
    right = bytes(heads) == b"".join([xorbs.head(xorbs.RAW, length, length) for length in lengths])
    if check and right:
        names = piece.rows["hash"].tolist()
        right = all(hashes.chunk_hash(body) == name for body, name in zip(into[1::2], names, strict=True))
    if not right:
        raise InputError("stored bytes are not what was written: the store is damaged")
    return plain


Work = Callable[[Piece, Path | None, memoryview | None], memoryview]
"""What a thread does with a piece: with its packed bytes, or without them where it reads them from a folder."""


async def _prepared(
    objects: Objects, catalogue: Catalogue, parts: Sequence[Piece], work: Work
) -> AsyncIterator[memoryview]:
    async def once(piece: Piece) -> memoryview:
        if objects.folder is not None:
            return await asyncio.to_thread(work, piece, objects.folder, None)
        data = await objects.read(piece.xorb.object, *piece.span)
        return await asyncio.to_thread(work, piece, None, data)

    async def prepare(piece: Piece) -> memoryview:
        try:
            return await once(piece)
        except Unavailable:
            # Collected and uploaded again since it was looked up: it lies in another object now.
            catalogue.forget(piece.xorb.hash)
            return await once(Piece(await catalogue.xorb(piece.xorb.hash), piece.start, piece.end))

    ahead: asyncio.Task[memoryview] | None = None
    try:
        for index, piece in enumerate(parts):
            ready = await (ahead or prepare(piece))
            ahead = asyncio.create_task(prepare(parts[index + 1])) if index + 1 < len(parts) else None
            yield ready
    finally:
        if ahead is not None:
            ahead.cancel()


@dataclass(frozen=True)
class Range:
    """A range of a file as whole chunks: `skip` bytes at their beginning are before it."""

    terms: list[Term]
    skip: int
    length: int


async def within(catalogue: Catalogue, terms: Sequence[Term], start: int, end: int) -> Range:
    """The terms that hold the bytes from `start` to before `end`, cut to the chunks that are needed."""
    found: list[Term] = []
    at = skip = 0
    for term in terms:
        if at + term.unpacked > start and at < end:
            trimmed, before = await _trimmed(catalogue, term, max(0, start - at), end - at)
            skip = skip if found else before
            found.append(trimmed)
        at += term.unpacked
        if at >= end:
            break
    return Range(found, skip, max(0, end - start))


async def _trimmed(catalogue: Catalogue, term: Term, start: int, end: int) -> tuple[Term, int]:
    if start <= 0 and end >= term.unpacked:
        return term, 0
    xorb = await catalogue.xorb(hashes.text(term.xorb))
    ends = np.cumsum(xorb.chunks["unpacked"][term.start : term.end], dtype=np.int64)
    first = int(np.searchsorted(ends, start, side="right"))
    last = int(np.searchsorted(ends, min(end, term.unpacked), side="left"))
    begin = int(ends[first - 1]) if first else 0
    return Term(term.xorb, term.start + first, term.start + last + 1, int(ends[last]) - begin), start - begin


async def read(
    objects: Objects, catalogue: Catalogue, terms: Sequence[Term], start: int, end: int, *, check: bool = True
) -> AsyncIterator[memoryview]:
    """The bytes from `start` to before `end` of a file with these terms.

    `check=False` is for who holds the whole against a digest of its own before anyone sees it.
    """
    wanted = await within(catalogue, terms, start, end)
    skip, left = wanted.skip, wanted.length
    parts = []
    for term in wanted.terms:
        parts += pieces(await catalogue.xorb(hashes.text(term.xorb)), term.start, term.end)
    async for plain in _prepared(objects, catalogue, parts, partial(_unpacked, check=check)):
        view = plain[skip : skip + left]
        skip, left = 0, left - len(view)
        yield view
