"""Chunks as they are packed in a xorb: eight bytes of header, then the data, raw or compressed.

Header: version 0, packed length (3 bytes, little-endian), scheme, unpacked length (3 bytes). Schemes: 0 raw, 1 an LZ4
frame, 2 an LZ4 frame of the bytes grouped by their place in groups of four. After the chunks a client may send a
footer that begins with `XETBLOB`; all it says is computed here from the chunks themselves, so it is not read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lz4.block
import lz4.frame
import numpy as np

from allmend.errors import InputError
from allmend.hub.store import hashes

MOST_UNPACKED = 128 * 1024
MOST_BYTES = 64 * 1024 * 1024
MOST_CHUNKS = 8 * 1024
HEADER = 8
"""Bytes before each chunk."""
_FOOTER = b"XETBLOB"
# A footer names each chunk's hash and two offsets (40 bytes); beside them about a hundred bytes.
_MOST_FOOTER = 40 * MOST_CHUNKS + 4096
RAW, LZ4, GROUPED = 0, 1, 2
_FRAME = b"\x04\x22\x4d\x18"

RECORD = np.dtype([("hash", "V32"), ("digest", "V16"), ("packed", "<u4"), ("unpacked", "<u4")])
"""What the catalogue knows of each chunk of a xorb: name, `digest`, length packed (header included) and unpacked."""

_RECORD = struct.Struct("<32s16sII")

Records = np.ndarray[Any, np.dtype[np.void]]


@dataclass(frozen=True)
class Packed:
    """One chunk, packed and checked: its name, the digest of its packed bytes, both lengths."""

    hash: bytes
    digest: bytes
    packed: int
    unpacked: int


def records(chunks: Sequence[Packed]) -> bytes:
    """The catalogue's record of `chunks`."""
    return b"".join([_RECORD.pack(chunk.hash, chunk.digest, chunk.packed, chunk.unpacked) for chunk in chunks])


def pack(data: bytes | memoryview, name: bytes) -> tuple[Packed, bytes]:
    """Pack a chunk in whichever scheme makes it smallest, by a look at its first 8 KiB."""
    scheme, body = RAW, bytes(data)
    sample = body[: 8 * 1024]
    plain = len(lz4.block.compress(sample, store_size=False)) if sample else 0
    grouped = len(lz4.block.compress(_group(sample), store_size=False)) if sample else 0
    if min(plain, grouped) < len(sample) * 0.97:
        scheme = GROUPED if grouped < plain * 0.98 else LZ4
        squeezed = lz4.frame.compress(_group(body) if scheme == GROUPED else body, store_size=False)
        if len(squeezed) < len(body):
            body = squeezed
        else:
            scheme = RAW
    packed = head(scheme, len(body), len(data)) + body
    return Packed(name, digest(packed, name), len(packed), len(data)), packed


def head(scheme: int, packed: int, unpacked: int) -> bytes:
    """The header of a chunk of these lengths."""
    return b"\0" + packed.to_bytes(3, "little") + bytes([scheme]) + unpacked.to_bytes(3, "little")


def unpack(packed: bytes | memoryview) -> bytes | memoryview:
    """The bytes of one packed chunk, header included; raises `InputError` when it is not what its header says."""
    view = memoryview(packed)
    length, scheme, unpacked = _header(view)
    body = view[HEADER : HEADER + length]
    if len(body) != length:
        raise InputError("a chunk ends before its length")
    if scheme == RAW:
        data: bytes | memoryview = body
    else:
        data = _frame(body, unpacked)
        if scheme == GROUPED:
            data = _ungroup(data)
    if len(data) != unpacked:
        raise InputError("a chunk is not as long as its header says")
    return data


def _header(view: memoryview) -> tuple[int, int, int]:
    version, scheme = view[0], view[4]
    length, unpacked = int.from_bytes(view[1:4], "little"), int.from_bytes(view[5:8], "little")
    if version != 0 or scheme not in (RAW, LZ4, GROUPED):
        raise InputError(f"a chunk is of version {version}, scheme {scheme}; known are version 0, schemes 0 to 2")
    if not 0 < unpacked <= MOST_UNPACKED or not 0 < length <= 2 * MOST_UNPACKED:
        raise InputError("a chunk is empty or longer than 128 KiB")
    return length, scheme, unpacked


def _frame(body: memoryview, unpacked: int) -> bytes:
    if bytes(body[:4]) != _FRAME:
        raise InputError("a chunk is no LZ4 frame")
    try:
        # Bounded: a frame may claim any length, and be a bomb.
        decompressor = lz4.frame.LZ4FrameDecompressor()
        data = decompressor.decompress(body, max_length=unpacked + 1)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise InputError("a chunk is no whole LZ4 frame") from error
    if len(data) != unpacked:
        raise InputError("a chunk is not as long as its header says")
    return bytes(data)


def _group(data: bytes) -> bytes:
    return b"".join([data[at::4] for at in range(4)])


def _ungroup(data: bytes) -> bytes:
    out = bytearray(len(data))
    at = 0
    for place in range(4):
        count = (len(data) - place + 3) // 4
        out[place::4] = data[at : at + count]
        at += count
    return bytes(out)


class Reader:
    """Takes a xorb as it arrives, piece by piece, and checks its chunks. Raises `InputError` on what is no xorb."""

    def __init__(self) -> None:
        self._footer = 0
        self._bytes = 0
        self.chunks: list[Packed] = []
        """Every chunk so far."""

    def feed(self, view: memoryview) -> int:
        """Check the packed chunks that are whole in `view`; their bytes together.

        The next call begins with what is left of `view`; after a footer nothing is.
        """
        if self._footer:
            self._check_footer(len(view))
            return 0
        at, end = 0, len(view)
        while end - at >= HEADER:
            if view[at : at + len(_FOOTER)] == _FOOTER:
                self._check_footer(end - at)
                break
            length, _, unpacked = _header(view[at : at + HEADER])
            stop = at + HEADER + length
            if stop > end:
                break
            packed = view[at:stop]
            name = hashes.chunk_hash(unpack(packed))
            self.chunks.append(Packed(name, digest(packed, name), stop - at, unpacked))
            self._bytes += stop - at
            if len(self.chunks) > MOST_CHUNKS or self._bytes > MOST_BYTES + MOST_CHUNKS * HEADER:
                raise InputError("a xorb has more than 8,192 chunks or 64 MiB")
            at = stop
        return at

    @property
    def ended(self) -> bool:
        """Whether the footer has begun: nothing that follows is kept."""
        return self._footer > 0

    def finish(self, left: int) -> bytes:
        """The name of the whole xorb; raises `InputError` when bytes are `left` that make no chunk, or it has none."""
        if (left and not self._footer) or not self.chunks:
            raise InputError("a xorb ends in the middle of a chunk, or has none")
        return hashes.tree_hash((chunk.hash, chunk.unpacked) for chunk in self.chunks)

    def _check_footer(self, more: int) -> None:
        self._footer += more
        if self._footer > _MOST_FOOTER:
            raise InputError("a xorb's footer is longer than its chunks can need")


def digest(packed: bytes | memoryview, name: bytes) -> bytes:
    """The digest of a packed chunk that is called `name`: for a raw one its name says it, and is not computed again."""
    raw = packed[4] == RAW
    return name[:16] if raw else hashes.packed_digest(packed)


def all_raw(array: Records) -> bool:
    """Whether none of these chunks is compressed: see `digest`."""
    return all(name[:16] == told for name, told in zip(array["hash"].tolist(), array["digest"].tolist(), strict=True))


def split(data: memoryview, array: Records, *, check: bool = True) -> Iterator[memoryview]:
    """The packed chunks in `data`, whose records are `array`; each as it was written, or `InputError`.

    `check=False` leaves the digests to whoever holds the unpacked whole against one of its own.
    """
    at = 0
    for name, told, length, unpacked in array.tolist():
        packed = data[at : at + length]
        if check and not _as_written(packed, name, told, unpacked):
            raise InputError("stored bytes are not what was written: the store is damaged")
        yield packed
        at += length


def _as_written(packed: memoryview, name: bytes, told: bytes, unpacked: int) -> bool:
    if len(packed) <= HEADER:
        return False
    if told != name[:16]:
        return hashes.packed_digest(packed) == told
    return packed[:HEADER] == head(RAW, unpacked, unpacked) and hashes.chunk_hash(packed[HEADER:]) == name
