"""Shards: what a client says of its upload, and what it is told of chunks that are here already.

A shard is records of 48 bytes: a header, the files (each with its ranges of chunks, a proof for each range and the
SHA-256), a bookend, the xorbs (each with its chunks), a bookend; a footer and look-up tables may follow (Xet
specification, "Shard format"). Everything in it is a claim: `register` holds each against the chunks that are here.
"""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from allmend.errors import InputError
from allmend.hub.store import hashes

MOST_BYTES = 64 * 1024 * 1024
_RECORD = 48
_TAG = b"HFRepoMetaData\0" + bytes([85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169])
_VERSION = 2
_HEAD = struct.Struct("<32sQQ")
_FILE = struct.Struct("<32sIIQ")
_TERM = struct.Struct("<32sIIII")
_FOOTER = struct.Struct("<9Q32s2Q6Q3QQ")
_PROOFS, _SHA256 = 1 << 31, 1 << 30
_MOST_FILE_RECORDS = 256 * 1024  # what the terms of files of 100 GB and more need; each takes memory here

CHUNK = np.dtype([("hash", "V32"), ("at", "<u4"), ("unpacked", "<u4"), ("flags", "<u4"), ("unused", "<u4")])
"""A chunk in a shard's list of a xorb."""


@dataclass(frozen=True)
class Term:
    """A range of chunks of a xorb: `start` to before `end`, `unpacked` bytes."""

    xorb: bytes
    start: int
    end: int
    unpacked: int


@dataclass(frozen=True)
class ClaimedFile:
    """A file as a client describes it."""

    hash: bytes
    terms: tuple[Term, ...]
    proofs: tuple[bytes, ...]
    sha256: bytes | None


@dataclass(frozen=True)
class ClaimedXorb:
    """A xorb as a client describes it: names and lengths of its chunks, as `CHUNK` records."""

    hash: bytes
    chunks: np.ndarray[Any, np.dtype[np.void]]


@dataclass(frozen=True)
class Shard:
    """A parsed shard; nothing in it is checked but its form."""

    files: tuple[ClaimedFile, ...]
    xorbs: tuple[ClaimedXorb, ...]


def parse(data: bytes) -> Shard:
    """Read a shard; raises `InputError` when it is none. Takes time and memory in proportion to its length."""
    if len(data) > MOST_BYTES + _HEAD.size:
        raise InputError("a shard is longer than 64 MiB")
    cursor = _Cursor(data)
    tag, version, _ = cursor.read(_HEAD)
    if tag != _TAG or version != _VERSION:
        raise InputError("this is no shard of version 2")
    files, taken = [], 0
    while (head := cursor.read(_FILE))[0] != hashes.BOOKEND:
        name, flags, count, _ = head
        taken += 1 + 2 * count
        if taken > _MOST_FILE_RECORDS:
            raise InputError("a shard's files have too many ranges of chunks", hint="Upload fewer files at once.")
        terms = tuple(Term(xorb, start, end, size) for xorb, _, size, start, end in cursor.many(_TERM, count))
        proofs = tuple(row[0] for row in cursor.many(_TERM, count if flags & _PROOFS else 0))
        extra = cursor.read(_TERM)[0] if flags & _SHA256 else None
        files.append(ClaimedFile(name, terms, proofs, extra))
    xorbs = []
    while (row := cursor.read(_TERM))[0] != hashes.BOOKEND:
        xorbs.append(ClaimedXorb(row[0], np.frombuffer(cursor.bytes(row[2] * CHUNK.itemsize), dtype=CHUNK)))
    return Shard(tuple(files), tuple(xorbs))


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, form: struct.Struct) -> tuple[Any, ...]:
        if self._at + form.size > len(self._data):
            raise InputError("a shard ends in the middle of a record")
        row = form.unpack_from(self._data, self._at)
        self._at += form.size
        return row

    def bytes(self, length: int) -> memoryview:
        if self._at + length > len(self._data):
            raise InputError("a shard ends in the middle of a record")
        self._at += length
        return memoryview(self._data)[self._at - length : self._at]

    def many(self, form: struct.Struct, count: int) -> list[tuple[Any, ...]]:
        return list(form.iter_unpack(self.bytes(count * form.size)))


def answer(xorbs: Sequence[tuple[bytes, Sequence[tuple[bytes, int]], int]], *, seconds: int) -> bytes:
    """A shard that tells which chunks are here: (xorb, (chunk, length) pairs, packed length) of each xorb.

    The chunks' names are hidden under a key made for this answer, so that it helps only those who hold a chunk
    themselves; a client asks for one chunk and may look up its others for `seconds`.
    """
    key = secrets.token_bytes(hashes.SIZE)
    out = bytearray(_HEAD.pack(_TAG, _VERSION, _FOOTER.size))
    files_at = len(out)
    out += _FILE.pack(hashes.BOOKEND, 0, 0, 0)
    xorbs_at = len(out)
    xorb_rows: list[tuple[int, int]] = []
    chunk_rows: list[tuple[int, int, int]] = []
    index = unpacked = stored = 0
    for name, chunks, packed in xorbs:
        total = sum(size for _, size in chunks)
        out += _TERM.pack(name, 0, len(chunks), total, packed)
        xorb_rows.append((_first(name), index))
        at = 0
        for place, (chunk, size) in enumerate(chunks):
            hidden = hashes.keyed(chunk, key)
            out += _TERM.pack(hidden, at, size, 0, 0)
            chunk_rows.append((_first(hidden), index, place))
            at += size
        index += 1 + len(chunks)
        unpacked, stored = unpacked + total, stored + packed
    out += _TERM.pack(hashes.BOOKEND, 0, 0, 0, 0)
    lookups_at = len(out)
    for row in sorted(xorb_rows):
        out += struct.pack("<QI", *row)
    chunks_at = len(out)
    for entry in sorted(chunk_rows):
        out += struct.pack("<QII", *entry)
    now = int(time.time())
    out += _FOOTER.pack(
        1, files_at, xorbs_at, lookups_at, 0, lookups_at, len(xorb_rows), chunks_at, len(chunk_rows), key, now,
        now + seconds, 0, 0, 0, 0, 0, 0, stored, 0, unpacked, len(out),
    )  # fmt: skip
    return bytes(out)


def _first(name: bytes) -> int:
    return int.from_bytes(name[:8], "little")
