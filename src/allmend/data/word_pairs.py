"""The neighbouring words of many texts, kept in a temporary file: four bytes a pair, in the order of the texts.

A million texts have tens of millions of word pairs, which are needed twice more: in order, to draw the texts'
signatures, and here and there, to compare two texts that seem alike.
"""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from allmend.data.wording import key
from allmend.errors import DoesNotFit

Keys = NDArray[np.uint64]
Pairs = NDArray[np.uint32]

IN_MEMORY = 32 * 2**20
"""Bytes of pairs that are kept in memory before a file is begun."""

_AT_ONCE = 1 << 19
"""Words, or pairs, worked on at a time."""

_KNOWN_WORDS = 200_000
"""Words whose digests are remembered; then it begins anew."""


def mix(values: Keys) -> Keys:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): each bit of the input moves all of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class WordPairs:
    """Texts go in one by one; hashes of their pairs of neighbouring words come out again."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  (lives as long as this)
        weakref.finalize(self, self._file.close)
        self._digests: dict[str, int] = {}
        self._words = array("Q")
        self._counts = array("L")
        self._written = 0
        """Texts whose pairs are in the file."""

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, normalised: str) -> None:
        """Take the next text."""
        digests = self._digests
        words = normalised.split(" ")
        try:
            self._words.extend([digests[word] for word in words])
        except KeyError:
            if len(digests) > _KNOWN_WORDS:
                digests.clear()
            for word in words:
                if word not in digests:
                    digests[word] = key(word)
            self._words.extend([digests[word] for word in words])
        self._counts.append(len(words) - 1)
        if len(self._words) > _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        """Write the pairs of the texts taken since the last time."""
        if not self._words:
            return
        words = np.frombuffer(self._words, np.uint64)
        ends = np.cumsum(np.asarray(self._counts[self._written :], np.int64) + 1)
        pairs = (mix(words[:-1] * np.uint64(3) + words[1:]) >> np.uint64(32)).astype(np.uint32)
        inside = np.ones(len(pairs), bool)
        inside[ends[:-1] - 1] = False
        self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(pairs[inside].tobytes())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise
            raise DoesNotFit(
                f"no room for the word pairs by which rows are compared: {os.strerror(error.errno)}",
                where=tempfile.gettempdir(),
                hint="They take about as much as the texts. Free some space, or name another folder in TMPDIR.",
            ) from None
        self._words = array("Q")
        self._written = len(self._counts)

    def starts(self) -> NDArray[np.int64]:
        """Where each text's pairs begin, and at last where they end: one more than there are texts."""
        self._flush()
        starts = np.zeros(len(self._counts) + 1, np.int64)
        np.cumsum(np.frombuffer(self._counts, np.dtype("L")), out=starts[1:])
        return starts

    def of(self, begin: int, end: int) -> Pairs:
        """The pairs from one place to another."""
        self._file.seek(begin * 4)
        return np.frombuffer(self._file.read((end - begin) * 4), np.uint32)

    def blocks(self, starts: NDArray[np.int64]) -> Iterator[tuple[int, int, Pairs]]:
        """All pairs in order, some whole texts at a time: (first text, text after the last, their pairs)."""
        texts, begin = len(starts) - 1, 0
        while begin < texts:
            end = int(np.searchsorted(starts, starts[begin] + _AT_ONCE, "right")) - 1
            end = min(max(end, begin + 1), texts)
            yield begin, end, self.of(int(starts[begin]), int(starts[end]))
            begin = end
