"""Which rows say the same thing: exactly, after normalising; or nearly, by the word pairs they share.

Near duplicates are found with MinHash (Broder 1997) over pairs of neighbouring words, banded so that only rows
that probably share `NEAR` of their pairs are compared, and each candidate is checked exactly. Work and memory
grow linearly with the text; everything depends on content alone, never on the order of the rows."""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAR = 0.7
"""Jaccard similarity of two rows' word pairs from which they nearly repeat: one word of twenty is changed."""

FEWEST_PAIRS = 5
"""A row with fewer telling word pairs is compared exactly only; two short rows are alike too easily."""

_HASHES, _BAND = 48, 3  # finds pairs of similarity 0.7 in 998 cases of 1000, of 0.8 in all but one of 10^5
_CHUNK = 1 << 22
_SYMBOLS = "+-*/=<>%$#@&^|~\\_`"
_TO_SPACE = str.maketrans(
    dict.fromkeys(string.punctuation + string.whitespace, " ") | {mark: f" {mark} " for mark in _SYMBOLS} | {"'": None}
)
_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff\U00020000-\U0003ffff])")
Keys = NDArray[np.uint64]


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


def normal(text: str) -> str:
    """The words and symbols of `text` in lower case with single spaces; sentence punctuation is dropped.

    Symbols stay (`2 + 3` is not `2 - 3`, and an emoji can be all that differs); scripts written without spaces
    count each letter as a word."""
    if text.isascii():
        return " ".join(text.lower().translate(_TO_SPACE).split()) or text.strip()
    folded = unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("\u2019", "")
    parts = _WORD.findall(_UNSPACED.sub(r" \1 ", folded))
    words = [part for part in parts if part in _SYMBOLS or unicodedata.category(part[0])[0] != "P"]
    return " ".join(words) or text.strip()


def key(normalised: str) -> int:
    """64 bits of BLAKE2b of a normalised text."""
    return int.from_bytes(hashlib.blake2b(normalised.encode(), digest_size=8).digest(), "little")


def likeness(texts: Sequence[str], *, near: bool = True) -> Likeness:
    """Group `texts` by what they say; `near=False` compares exactly (after normalising) only."""
    if not texts:
        return Likeness(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
    normalised = [normal(text) for text in texts]
    keys = np.fromiter((key(text) for text in normalised), np.uint64, len(texts))
    if not near:
        return Likeness(keys, keys)
    distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    parents = _near([normalised[place] for place in first])
    return Likeness(keys, distinct[parents][inverse])


def _near(texts: list[str]) -> NDArray[np.int64]:
    """For each of distinct `texts` (in the order of their keys) the first of its group."""
    pairs, starts = _word_pairs(texts)
    pairs, starts = _without_common(pairs, starts)
    parents = np.arange(len(texts))
    telling = np.flatnonzero(np.diff(starts) >= FEWEST_PAIRS)
    if len(telling) < 2:
        return parents
    signatures = _signatures(pairs, starts, telling)
    candidates = _candidates(signatures, telling)
    for left, right in candidates.tolist():
        if _jaccard(pairs[starts[left] : starts[left + 1]], pairs[starts[right] : starts[right + 1]]) >= NEAR:
            _join(parents, left, right)
    for place in range(len(parents)):
        parents[place] = parents[parents[place]]
    return parents


def _join(parents: NDArray[np.int64], left: int, right: int) -> None:
    roots = []
    for place in (left, right):
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = int(parents[place])
        roots.append(place)
    parents[max(roots)] = min(roots)


def _jaccard(left: Keys, right: Keys) -> float:
    a, b = set(left.tolist()), set(right.tolist())
    return len(a & b) / len(a | b)


def mix(values: Keys) -> Keys:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): each bit of the input moves all of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _word_pairs(texts: list[str]) -> tuple[Keys, NDArray[np.int64]]:
    """Hashes of neighbouring words, row after row, and where each row starts (one more entry than rows)."""
    ids: dict[str, int] = {}
    counts = np.zeros(len(texts), np.int64)
    parts: list[NDArray[np.int64]] = []
    for place, text in enumerate(texts):
        words = [ids.setdefault(word, len(ids)) for word in text.split(" ")]
        counts[place] = len(words)
        parts.append(np.array(words, np.int32))
    # Ids depend on the order of rows, the hashes of the words do not.
    hashes = np.fromiter((key(word) for word in ids), np.uint64, len(ids))
    words_flat = hashes[np.concatenate(parts)]
    ends = np.cumsum(counts)
    joined = mix(words_flat[:-1] * np.uint64(3) + words_flat[1:])
    inside = np.ones(len(joined), bool)
    inside[ends[:-1] - 1] = False
    starts = np.concatenate([[0], np.cumsum(counts - 1)])
    return joined[inside], starts


def _without_common(pairs: Keys, starts: NDArray[np.int64]) -> tuple[Keys, NDArray[np.int64]]:
    """Drop word pairs that stand in more than one row of twenty (and in over twenty): they are the data's own
    frame, such as an instruction that every prompt begins with, and would make everything alike."""
    rows = len(starts) - 1
    _, inverse, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    keep = (counts <= max(20, rows // 20))[inverse]
    if keep.all():
        return pairs, starts
    kept = np.concatenate([[0], np.cumsum(keep)])
    return pairs[keep], kept[starts]


def _signatures(pairs: Keys, starts: NDArray[np.int64], rows: NDArray[np.int64]) -> Keys:
    """MinHash signatures, (len(rows), _HASHES)."""
    seeds = mix(np.arange(1, _HASHES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    result = np.empty((len(rows), _HASHES), np.uint64)
    begin = 0
    while begin < len(rows):
        # As many rows at once as have about _CHUNK pairs together.
        limit = int(np.searchsorted(starts[rows + 1], starts[rows[begin]] + _CHUNK, "right"))
        end = min(max(begin + 1, limit), len(rows))
        low, high = starts[rows[begin]], starts[rows[end - 1] + 1]
        block = pairs[low:high]
        # Rows between that are too short end a stretch as well; only the stretches of `rows` are kept.
        marks = np.stack([starts[rows[begin:end]], starts[rows[begin:end] + 1]], 1).ravel() - low
        marks = marks[:-1]
        for number, seed in enumerate(seeds):
            hashed = (block ^ seed) * np.uint64(0xFF51AFD7ED558CCD)
            hashed ^= hashed >> np.uint64(32)
            result[begin:end, number] = np.minimum.reduceat(hashed, marks)[::2]
        begin = end
    return result


def _candidates(signatures: Keys, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs (first of a bucket, other) worth comparing, (n, 2): linear in the rows, however large a bucket is."""
    found = []
    for band in range(0, _HASHES, _BAND):
        mixed = np.zeros(len(rows), np.uint64)
        for column in range(band, band + _BAND):
            mixed = mix(mixed * np.uint64(31) + signatures[:, column])
        order = np.argsort(mixed, kind="stable")
        ordered = mixed[order]
        fresh = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        firsts = order[np.flatnonzero(fresh)][np.cumsum(fresh) - 1]
        others = ~fresh
        agree = (signatures[firsts[others]] == signatures[order[others]]).mean(1) >= NEAR - 0.25
        found.append(np.stack([rows[firsts[others]][agree], rows[order[others]][agree]], 1))
    return np.unique(np.concatenate(found), axis=0)
