"""Which rows say the same thing: exactly, after normalising; or nearly, by the word pairs they share.

Near duplicates are found with MinHash (Broder 1997) over pairs of neighbouring words, banded so that only rows
that probably share `NEAR` of their pairs are compared, and each candidate is checked exactly. Work grows linearly
with the text; memory is under 200 bytes a row however long the rows are, since word pairs wait in a temporary file.
Everything depends on content alone, never on the order of the rows."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from allmend.data.word_pairs import Keys, Pairs, WordPairs, mix
from allmend.data.wording import key, normal

NEAR = 0.7
"""Jaccard similarity of two rows' word pairs from which they nearly repeat: one word of twenty is changed."""

FEWEST_PAIRS = 5
"""A row with fewer telling word pairs is compared exactly only; two short rows are alike too easily."""

_HASHES, _BAND = 48, 3  # finds pairs of similarity 0.7 in 998 cases of 1000, of 0.8 in all but one of 10^5
_SEEDS = mix(np.arange(1, _HASHES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
_BUCKETS = 1 << 22
"""Counters of word pairs. Two pairs that share one are counted together, which matters only where one is common."""
_BANDS_AT_ONCE = 4

Places = NDArray[np.int32]


@dataclass(frozen=True)
class Likeness:
    """Rows grouped by likeness. Arrays have one entry a row, in the order of the rows."""

    keys: Keys
    """64 bits of a digest of the normalised text: equal for exact duplicates."""
    groups: Keys
    """The smallest key among a row's near duplicates (its own, when it has none)."""

    @property
    def duplicates(self) -> int:
        """Rows beyond the first of each distinct text."""
        return len(self.keys) - len(np.unique(self.keys))

    @property
    def near_duplicates(self) -> int:
        """Distinct texts beyond the first of each group."""
        return len(np.unique(self.keys)) - len(np.unique(self.groups))


def likeness(texts: Iterable[str], *, near: bool = True) -> Likeness:
    """Group `texts` by what they say; `near=False` compares exactly (after normalising) only."""
    seen = Texts(near=near)
    for text in texts:
        seen.add(text)
    return seen.likeness()


class Texts:
    """Texts go in one by one, and none is kept; at any time `likeness` groups those seen so far."""

    def __init__(self, *, near: bool = True) -> None:
        self._keys = array("Q")
        self._pairs = WordPairs() if near else None

    def add(self, text: str) -> None:
        """See the next text."""
        normalised = normal(text)
        self._keys.append(key(normalised))
        if self._pairs is not None:
            self._pairs.add(normalised)

    def likeness(self) -> Likeness:
        """What is alike among the texts seen so far."""
        keys = np.array(self._keys, np.uint64)
        if self._pairs is None or not len(keys):
            return Likeness(keys, keys)
        distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        rank = np.full(len(keys), -1, np.int32)
        rank[first] = np.arange(len(distinct), dtype=np.int32)
        members = inverse.astype(np.int32)
        del first, inverse
        parents = _Near(self._pairs, rank, len(distinct)).grouped()
        return Likeness(keys, distinct[parents][members])


class _Near:
    """Near duplicates among distinct texts, which are named by their rank: their place in the order of their keys.

    Args:
        rank: of each text; -1 for one that repeats an earlier one, which is passed over.
    """

    def __init__(self, pairs: WordPairs, rank: Places, distinct: int) -> None:
        self.pairs, self.rank = pairs, rank
        self.starts = pairs.starts()
        self.limit = max(20, distinct // 20)
        self.parents: Places = np.arange(distinct, dtype=np.int32)
        self.text_of: Places = np.empty(distinct, np.int32)
        self.text_of[rank[rank >= 0]] = np.flatnonzero(rank >= 0)

    def grouped(self) -> Places:
        """For each rank that of the first of its group."""
        self.counts = self._counted()
        self.signatures: NDArray[np.uint8] = np.zeros((len(self.parents), _HASHES), np.uint8)
        self.telling = np.zeros(len(self.parents), bool)
        for first in range(0, _HASHES // _BAND, _BANDS_AT_ONCE):
            bands = self._bands(first)
            if first == 0 and self.telling.sum() < 2:
                break
            for band in bands:
                self._join_alike(band)
        return self.parents

    def _counted(self) -> NDArray[np.int32]:
        """How often each word pair stands in distinct texts."""
        counts = np.zeros(_BUCKETS, np.int32)
        for begin, end, pairs in self.pairs.blocks(self.starts):
            fresh = np.repeat(self.rank[begin:end] >= 0, np.diff(self.starts[begin : end + 1]))
            np.add.at(counts, pairs[fresh] & np.uint32(_BUCKETS - 1), 1)
        return counts

    def _is_telling(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Which pairs stand in at most one row of twenty (or in twenty): the others are the data's own frame, such
        as an instruction that every prompt begins with, and would make everything alike."""
        few: NDArray[np.bool_] = self.counts[pairs & np.uint32(_BUCKETS - 1)] <= self.limit
        return few

    def _bands(self, first: int) -> NDArray[np.uint32]:
        """Some of the bands of every rank, (bands, ranks); the first time also the signatures' lowest bytes."""
        bands = np.zeros((_BANDS_AT_ONCE, len(self.parents)), np.uint32)
        for begin, end, pairs in self.pairs.blocks(self.starts):
            lengths = np.diff(self.starts[begin : end + 1])
            keep = self._is_telling(pairs) & np.repeat(self.rank[begin:end] >= 0, lengths)
            kept = np.concatenate([[0], np.cumsum(keep)])
            ends = kept[self.starts[begin : end + 1] - self.starts[begin]]
            chosen = np.flatnonzero(np.diff(ends) >= FEWEST_PAIRS)
            if not len(chosen):
                continue
            block = pairs[keep].astype(np.uint64)
            marks = np.stack([ends[chosen], ends[chosen + 1]], 1).ravel()[:-1]
            ranks = self.rank[begin:end][chosen]
            self.telling[ranks] = True
            wanted = range(_HASHES) if first == 0 else range(first * _BAND, (first + _BANDS_AT_ONCE) * _BAND)
            mixed = np.zeros((_BANDS_AT_ONCE, len(ranks)), np.uint64)
            for number in wanted:
                hashed = (block ^ _SEEDS[number]) * np.uint64(0xFF51AFD7ED558CCD)
                hashed ^= hashed >> np.uint64(32)
                # Pairs between two chosen texts end a stretch as well; only every other stretch is a text's.
                least = np.minimum.reduceat(hashed, marks)[::2]
                if first == 0:
                    self.signatures[ranks, number] = least >> np.uint64(20) & np.uint64(255)
                own = number // _BAND - first
                if own < _BANDS_AT_ONCE:
                    mixed[own] = mix(mixed[own] * np.uint64(31) + least)
            bands[:, ranks] = mixed >> np.uint64(32)
        return bands

    def _join_alike(self, band: NDArray[np.uint32]) -> None:
        """Compare the first of each bucket with the others in it, and join those that are alike: linear in the
        rows, however large a bucket is."""
        ranks = np.flatnonzero(self.telling).astype(np.int32)
        order = ranks[np.argsort(band[ranks], kind="stable")]
        ordered = band[order]
        fresh = np.ones(len(order), bool)
        np.not_equal(ordered[1:], ordered[:-1], out=fresh[1:])
        later = np.flatnonzero(~fresh)
        begins = np.maximum.accumulate(np.where(fresh, np.arange(len(order), dtype=np.int32), 0))
        firsts, others = order[begins[later]], order[later]
        # Signatures tell most of what is not alike, and what is in one group already needs no comparison.
        open_still = self.parents[firsts] != self.parents[others]
        firsts, others = firsts[open_still], others[open_still]
        agree = np.zeros(len(firsts), np.uint8)
        for column in range(_HASHES):
            agree += self.signatures[firsts, column] == self.signatures[others, column]
        likely = agree >= (NEAR - 0.25) * _HASHES
        firsts, others = firsts[likely], others[likely]
        known, left = -1, set[int]()
        for one, other in zip(firsts.tolist(), others.tolist(), strict=True):
            if one != known:
                known, left = one, self._telling_pairs(one)
            right = self._telling_pairs(other)
            shared = len(left & right)
            if shared >= NEAR * (len(left) + len(right) - shared):
                self._join(one, other)
        # Each points to the first of its group again.
        while not np.array_equal(above := self.parents[self.parents], self.parents):
            self.parents = above

    def _telling_pairs(self, rank: int) -> set[int]:
        text = self.text_of[rank]
        pairs = self.pairs.of(int(self.starts[text]), int(self.starts[text + 1]))
        return set(pairs[self._is_telling(pairs)].tolist())

    def _join(self, left: int, right: int) -> None:
        roots = []
        for place in (left, right):
            while self.parents[place] != place:
                self.parents[place] = self.parents[self.parents[place]]
                place = int(self.parents[place])
            roots.append(place)
        self.parents[max(roots)] = min(roots)
