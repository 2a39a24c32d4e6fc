"""A file, or a range of it, put together from its chunks; every byte is held against its digest on the way out."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from allmend.errors import InputError, NotFound, Unavailable
from allmend.hub.store import hashes, tables, xorbs
from allmend.hub.store.objects import Objects
from allmend.hub.store.shards import Term

_PIECE = 1024 * 1024
"""Packed bytes fetched at a time; the next piece is fetched and verified while the one before is sent."""

_SENT = 256 * 1024
"""Bytes handed out at a time: about what a socket takes at once; what it does not take is copied."""


Data = TypeVar("Data")


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


@dataclass(frozen=True)
class Piece:
    """Consecutive chunks of a xorb that are fetched together: `start` to before `end`."""

    xorb: tables.Xorb
    start: int
    end: int

    @property
    def span(self) -> tuple[int, int]:
        """Its packed bytes in the object: from, to before."""
        return _begin(self.xorb, self.start), int(self.xorb.ends[self.end - 1])


def _begin(xorb: tables.Xorb, place: int) -> int:
    return int(xorb.ends[place - 1]) if place else 0


def pieces(xorb: tables.Xorb, start: int, end: int) -> list[Piece]:
    """Chunks `start` to before `end` of a xorb in pieces of about two megabytes."""
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


async def packed(objects: Objects, catalogue: Catalogue, parts: Sequence[Piece]) -> AsyncIterator[bytes]:
    """The packed bytes of `parts`, held against their digests."""
    async for data in _prepared(objects, catalogue, parts, _checked):
        for at in range(0, len(data), _SENT):
            yield bytes(data[at : at + _SENT])


def _checked(data: memoryview, piece: Piece) -> memoryview:
    for _ in xorbs.split(data, piece.xorb.chunks[piece.start : piece.end]):
        pass
    return data


def _unpacked(data: memoryview, piece: Piece, check: bool) -> bytes:
    rows = piece.xorb.chunks[piece.start : piece.end]
    plain = b"".join([xorbs.unpack(one) for one in xorbs.split(data, rows, check=check)])
    if len(plain) != int(rows["unpacked"].sum(dtype=np.int64)):
        raise InputError("stored bytes are not what was written: the store is damaged")
    return plain


async def _prepared(
    objects: Objects, catalogue: Catalogue, parts: Sequence[Piece], work: Callable[[memoryview, Piece], Data]
) -> AsyncIterator[Data]:
    async def prepare(piece: Piece) -> Data:
        try:
            data = await objects.read(piece.xorb.object, *piece.span)
        except Unavailable:
            # Collected and uploaded again since it was looked up: it lies in another object now.
            catalogue.forget(piece.xorb.hash)
            piece = Piece(await catalogue.xorb(piece.xorb.hash), piece.start, piece.end)
            data = await objects.read(piece.xorb.object, *piece.span)
        return await asyncio.to_thread(work, data, piece)

    ahead: asyncio.Task[Data] | None = None
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
) -> AsyncIterator[bytes]:
    """The bytes from `start` to before `end` of a file with these terms.

    `check=False` is for who holds the whole against a digest of its own before anyone sees it.
    """
    wanted = await within(catalogue, terms, start, end)
    skip, left = wanted.skip, wanted.length
    parts = []
    for term in wanted.terms:
        parts += pieces(await catalogue.xorb(hashes.text(term.xorb)), term.start, term.end)
    async for plain in _prepared(objects, catalogue, parts, partial(_unpacked, check=check)):
        view = memoryview(plain)[skip : skip + left]
        skip, left = 0, left - len(view)
        for at in range(0, len(view), _SENT):
            yield bytes(view[at : at + _SENT])
