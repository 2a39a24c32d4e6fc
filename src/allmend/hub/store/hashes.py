"""Names of chunks, xorbs and files: keyed BLAKE3 and a tree over it (Xet specification, "Hashing").

In memory a hash is 32 bytes. Its text is not their plain hexadecimal: each group of eight bytes is read as a
little-endian number and that number is printed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

import numpy as np
from blake3 import blake3

from allmend.errors import InputError

SIZE = 32
ZERO = bytes(SIZE)
BOOKEND = b"\xff" * SIZE

# The four keys of the specification. They are no secrets: they keep one kind of name from being taken for another.
_CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")

_BRANCHES = 4
_FOUR = struct.Struct("<4Q")
_TEXT = re.compile(r"[0-9a-f]{64}")


def text(raw: bytes) -> str:
    """A hash as the protocol prints it."""
    return "{:016x}{:016x}{:016x}{:016x}".format(*_FOUR.unpack(raw))


def raw(name: str) -> bytes:
    """The bytes of a printed hash; raises `InputError` when it is none."""
    if not _TEXT.fullmatch(name):
        raise InputError("this is no hash of 64 small hexadecimal digits", where=name[:80])
    return _FOUR.pack(*(int(name[at : at + 16], 16) for at in (0, 16, 32, 48)))


def chunk_hash(data: bytes | memoryview) -> bytes:
    """The name of a chunk's bytes."""
    return blake3(data, key=_CHUNK_KEY).digest()


def packed_digest(data: bytes | memoryview) -> bytes:
    """Sixteen bytes that tell whether a chunk as it is stored is still what was written; ours, not the protocol's."""
    return blake3(data).digest(16)


def keyed(hash_: bytes, key: bytes) -> bytes:
    """A hash hidden under a key, as in the answers to questions for duplicates."""
    return blake3(hash_, key=key).digest()


def range_hash(chunks: bytes | memoryview) -> bytes:
    """What proves that a client knows the chunks of a range; `chunks` are their hashes, end to end."""
    return blake3(chunks, key=_RANGE_KEY).digest()


def tree_hash(chunks: Iterable[tuple[bytes, int]]) -> bytes:
    """The root over (hash, length) pairs: a xorb's name. Zero for none."""
    level = list(chunks)
    if not level:
        return ZERO
    while len(level) > 1:
        level = _above(level)
    return level[0][0]


def file_hash(chunks: Iterable[tuple[bytes, int]]) -> bytes:
    """A file's name, from the (hash, length) pairs of all of its chunks; zero for an empty file."""
    root = tree_hash(chunks)
    return root if root == ZERO else blake3(root, key=ZERO).digest()


def _above(level: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    """The nodes over `level`."""
    # All texts in one go: this runs over every chunk of every upload, twice.
    words = np.frombuffer(b"".join([name for name, _ in level]), dtype="<u8").byteswap().tobytes().hex()
    lines = [f"{words[2 * SIZE * at : 2 * SIZE * (at + 1)]} : {length}\n" for at, (_, length) in enumerate(level)]
    return [
        (
            blake3("".join(lines[first:end]).encode(), key=_NODE_KEY).digest(),
            sum([length for _, length in level[first:end]]),
        )
        for first, end in _groups(level)
    ]


def _groups(level: list[tuple[bytes, int]]) -> Iterable[tuple[int, int]]:
    # A group has at least two members and at most nine; from the third on, one whose number is a multiple of four
    # ends it. The last may be left alone.
    at, count = 0, len(level)
    while at < count:
        end = min(at + 2 * _BRANCHES + 1, count)
        for index in range(at + 2, end):
            if level[index][0][24] % _BRANCHES == 0:
                end = index + 1
                break
        yield at, end
        at = end
