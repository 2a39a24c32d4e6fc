"""Passages by meaning and by word, with a score that says how near each is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from allmend.documents.store import Found, Index

if TYPE_CHECKING:
    import numpy as np

_DEPTH = 50
WEIGHTS = (1.0, 0.5)
"""Of meaning and of words. It finds better than either alone, and than joining their ranks (`bench/documents.py`)."""


def ask(
    index: Index,
    question: str,
    vector: np.ndarray,
    *,
    most: int = 10,
    weights: tuple[float, float] = WEIGHTS,
    among: Collection[int] | None = None,
) -> list[Found]:
    """Passages, best first, by a score of their own, from 0 to 1: it does not depend on what else was found.

    It is the cosine of the two vectors (0 where that is negative), raised by the words that question and passage share:
    1 - (1 - meaning * cosine) * (1 - words * share), with `share` as `Index.share_of_words` has it.

    Args:
        vector: the question's embedding by the index's model.
        weights: of meaning and of words, which find names and numbers that meaning alone misses; each of 0 to 1.
        among: passages to choose from; all when not given.
    """
    depth = max(_DEPTH, most)
    meaning, words = weights
    cosines = dict(index.by_meaning(vector, depth, among)) if meaning > 0 else {}
    named = index.by_word(question, depth, among) if words > 0 else []
    shares = index.share_of_words(question, {*cosines, *named}) if words > 0 else dict.fromkeys(cosines, 0.0)
    if meaning > 0:
        cosines |= index.cosines(vector, [number for number in named if number not in cosines])
    scores = {
        number: 1 - (1 - meaning * min(max(cosines.get(number, 0.0), 0.0), 1.0)) * (1 - words * share)
        for number, share in shares.items()
    }
    best = sorted(scores, key=lambda number: (-scores[number], number))[:most]
    found = index.get(best)
    # One that was removed meanwhile is not found any more.
    return [replace(found[number], score=scores[number]) for number in best if number in found]
