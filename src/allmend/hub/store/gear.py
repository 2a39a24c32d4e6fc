"""Where a file is cut into chunks: by its content, so that an insertion moves only the cuts beside it.

A cut is after a byte at which the gear hash of the last 64 bytes has its highest 16 bits zero, at least 8 KiB and at
most 128 KiB after the cut before; 64 KiB on average (Xet specification, "Chunking"). The table of 256 numbers is part
of the specification: it is the default table of the gearhash crate, whose numbers every implementation shares.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from allmend.hub.store import gear_native

LEAST, MOST = 8 * 1024, 128 * 1024
_WINDOW = 64
_MASK = 0xFFFF << 48
_BLOCK = 32 * 1024  # bytes the numpy form hashes at a time: 8 bytes each, so that three rows stay in a core's cache

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@cache
def table() -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The 256 numbers of the gear hash."""
    text = "".join(files("allmend.hub.store").joinpath("gear.txt").read_text().split())
    return np.array([int(text[at : at + 16], 16) for at in range(0, len(text), 16)], dtype=np.uint64)


def cuts(data: bytes | bytearray | memoryview, *, last: bool, compiled: bool = True) -> list[int]:
    """The ends of the chunks of `data`, which begins at a cut.

    Without `last` the bytes after the last end returned still wait for more: at most 128 KiB of them.
    `compiled=False` takes numpy even where there is a compiler.
    """
    array = np.frombuffer(data, dtype=np.uint8)
    native = gear_native.library()[0] if compiled else None
    if native is None:
        return _numpy_cuts(array, last)
    ends = np.empty(len(array) // LEAST + 1, dtype=np.int64)
    count = native.allmend_cut(
        table().ctypes.data, array.ctypes.data, len(array), LEAST, MOST, _MASK, int(last), ends.ctypes.data, len(ends)
    )
    return [int(end) for end in ends[:count]]


def _numpy_cuts(array: Bytes, last: bool) -> list[int]:
    places = _places(array)
    ends: list[int] = []
    begin, length = 0, len(array)
    while begin < length:
        first = np.searchsorted(places, begin + LEAST)
        if first < len(places) and places[first] <= begin + MOST:
            end = int(places[first])
        elif begin + MOST <= length:
            end = begin + MOST
        elif last:
            end = length
        else:
            break
        ends.append(end)
        begin = end
    return ends


def _places(array: Bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Every index after a byte whose window matches, in order."""
    found = []
    for start in range(0, len(array), _BLOCK):
        begin = max(0, start - _WINDOW + 1)
        hashes = table()[array[begin : start + _BLOCK]]
        # The hash of a window of twice the length is that of its later half plus that of its earlier one, shifted:
        # six doublings give the 64 bytes.
        for width in (1, 2, 4, 8, 16, 32):
            doubled = hashes.copy()
            doubled[width:] += hashes[:-width] << np.uint64(width)
            hashes = doubled
        matches = np.flatnonzero((hashes >> np.uint64(48)) == 0) + begin + 1
        found.append(matches[matches > start])
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)
