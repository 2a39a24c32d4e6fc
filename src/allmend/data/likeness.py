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

ALMOST = 0.8
"""Similarity over all word pairs, the data's frame included, from which rows repeat: a text of twenty words with
another number in it."""

FEWEST_PAIRS = 5
"""A row with fewer telling word pairs is compared exactly only; two short rows are alike too easily."""

_HASHES, _BAND = 48, 3  # finds pairs of similarity 0.7 in 998 cases of 1000, of 0.8 in all but one of 10^5
_SEEDS = mix(np.arange(1, _HASHES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
_WIDE_BAND = 4  # finds pairs of similarity 0.8 in 998 cases of 1000
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
    framed: int = 0
    """Distinct texts that agree on nearly all words with others, and are more than half of all: what they share was
    taken for the data's frame. 0 where it is not so."""

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
        near = _Near(self._pairs, rank, len(distinct))
        parents = near.grouped()
        return Likeness(keys, distinct[parents][members], near.framed)


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
        self.whole, self.nearness = False, NEAR
        self.framed = 0
        self.text_of: Places = np.empty(distinct, np.int32)
        self.text_of[rank[rank >= 0]] = np.flatnonzero(rank >= 0)

    def grouped(self) -> Places:
        """For each rank that of the first of its group."""
        self.counts = self._counted()
        self.signatures: NDArray[np.uint8] = np.zeros((len(self.parents), _HASHES), np.uint8)
        if self.counts.max() > self.limit:
            self._join_almost_equal()
        self.telling = np.zeros(len(self.parents), bool)
        for first in range(0, _HASHES // _BAND, _BANDS_AT_ONCE):
            bands = self._bands(first)
            if first == 0 and self.telling.sum() < 2:
                break
            for band in bands:
                self._join_alike(band)
        return self.parents

    def _join_almost_equal(self) -> None:
        """Join texts that agree on nearly all pairs, before those that stand in many texts are left out: a text
        that stands there thirty times with another number is no frame. Where that joins more than half of all
        texts it is one, and nothing is joined. Each group counts once from then on."""
        self.telling = np.zeros(len(self.parents), bool)
        self.whole, self.nearness = True, ALMOST
        for band in self._bands(0, _WIDE_BAND, _HASHES // _WIDE_BAND):
            if self.telling.sum() > 1:
                self._join_alike(band)
        self.whole, self.nearness = False, NEAR
        sizes = np.bincount(self.parents, minlength=len(self.parents))
        joined = int(sizes[sizes > 1].sum())
        if joined * 2 > len(self.parents):
            self.framed = joined
            self.parents = np.arange(len(self.parents), dtype=np.int32)
        elif joined:
            self.counts = self._counted()

    def _counted(self) -> NDArray[np.int32]:
        """How often each word pair stands in distinct texts, of which those that are joined count as one."""
        counts = np.zeros(_BUCKETS, np.int32)
        first = self.parents == np.arange(len(self.parents), dtype=np.int32)
        for begin, end, pairs in self.pairs.blocks(self.starts):
            ranks = self.rank[begin:end]
            fresh = np.repeat((ranks >= 0) & first[ranks], np.diff(self.starts[begin : end + 1]))
            np.add.at(counts, pairs[fresh] & np.uint32(_BUCKETS - 1), 1)
        return counts

    def _is_telling(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Which pairs stand in at most one row of twenty (or in twenty): the others are the data's own frame, such
        as an instruction that every prompt begins with, and would make everything alike."""
        few: NDArray[np.bool_] = self.counts[pairs & np.uint32(_BUCKETS - 1)] <= self.limit
        return few

    def _chosen(self, begin: int, end: int, pairs: Pairs) -> tuple[NDArray[np.bool_], NDArray[np.int64], Places]:
        """Of a block: the pairs that are compared by, where each text's end among these, and the texts with enough.

        Over whole texts, only those are compared of whose pairs a third stands in many texts: others that agree on
        four fifths agree on enough of the rest.
        """
        starts = self.starts[begin : end + 1] - self.starts[begin]
        lengths = np.diff(starts)
        fresh = self.rank[begin:end] >= 0
        telling = self._is_telling(pairs)
        if self.whole:
            fresh = fresh & (_sums(telling, starts) * 3 <= lengths * 2)
            telling = np.ones(len(pairs), bool)
        keep = telling & np.repeat(fresh, lengths)
        ends = np.concatenate([[0], np.cumsum(keep)])[starts]
        return keep, ends, np.flatnonzero(np.diff(ends) >= FEWEST_PAIRS).astype(np.int32)

    def _bands(self, first: int, size: int = _BAND, at_once: int = _BANDS_AT_ONCE) -> NDArray[np.uint32]:
        """Some of the bands of every rank, (bands, ranks); the first time also the signatures' lowest bytes."""
        bands = np.zeros((at_once, len(self.parents)), np.uint32)
        for begin, end, pairs in self.pairs.blocks(self.starts):
            keep, ends, chosen = self._chosen(begin, end, pairs)
            if not len(chosen):
                continue
            block = pairs[keep].astype(np.uint64)
            marks = np.stack([ends[chosen], ends[chosen + 1]], 1).ravel()[:-1]
            ranks = self.rank[begin:end][chosen]
            self.telling[ranks] = True
            wanted = range(_HASHES) if first == 0 else range(first * size, (first + at_once) * size)
            mixed = np.zeros((at_once, len(ranks)), np.uint64)
            for number in wanted:
                hashed = (block ^ _SEEDS[number]) * np.uint64(0xFF51AFD7ED558CCD)
                hashed ^= hashed >> np.uint64(32)
                # Pairs between two chosen texts end a stretch as well; only every other stretch is a text's.
                least = np.minimum.reduceat(hashed, marks)[::2]
                if first == 0:
                    self.signatures[ranks, number] = least >> np.uint64(20) & np.uint64(255)
                own = number // size - first
                if own < at_once:
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
        likely = agree >= (self.nearness - 0.25) * _HASHES
        firsts, others = firsts[likely], others[likely]
        known, left = -1, set[int]()
        for one, other in zip(firsts.tolist(), others.tolist(), strict=True):
            if one != known:
                known, left = one, self._compared_pairs(one)
            right = self._compared_pairs(other)
            shared = len(left & right)
            if shared >= self.nearness * (len(left) + len(right) - shared):
                self._join(one, other)
        # Each points to the first of its group again.
        while not np.array_equal(above := self.parents[self.parents], self.parents):
            self.parents = above

    def _compared_pairs(self, rank: int) -> set[int]:
        text = self.text_of[rank]
        pairs = self.pairs.of(int(self.starts[text]), int(self.starts[text + 1]))
        return set((pairs if self.whole else pairs[self._is_telling(pairs)]).tolist())

    def _join(self, left: int, right: int) -> None:
        roots = []
        for place in (left, right):
            while self.parents[place] != place:
                self.parents[place] = self.parents[self.parents[place]]
                place = int(self.parents[place])
            roots.append(place)
        self.parents[max(roots)] = min(roots)


def _sums(marked: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many are marked from each start to the next."""
    sums: NDArray[np.int64] = np.diff(np.concatenate([[0], np.cumsum(marked)])[starts])
    return sums
