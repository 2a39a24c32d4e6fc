"""Passages by meaning and by word, joined by their ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from allmend.documents.store import Found, Index

if TYPE_CHECKING:
    import numpy as np

_DEPTH = 50
_CONSTANT = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009)."""


def ask(index: Index, question: str, vector: np.ndarray, *, most: int = 10, words: bool = True) -> list[Found]:
    """Passages, best first; `score` is 1 where meaning and words both put a passage first, and falls with its ranks.

    Args:
        vector: the question's embedding by the index's model.
        words: look for the question's words too, where meaning alone misses names and numbers.
    """
    depth = max(_DEPTH, most)
    ranks = [[number for number, _ in index.by_meaning(vector, depth)]]
    if words:
        ranks.append(index.by_word(question, depth))
    scores: dict[int, float] = {}
    for rank in ranks:
        for place, number in enumerate(rank, 1):
            scores[number] = scores.get(number, 0.0) + 1 / (_CONSTANT + place)
    best = sorted(scores, key=lambda number: (-scores[number], number))[:most]
    found = index.get(best)
    whole = len(ranks) / (_CONSTANT + 1)
    # One that was removed meanwhile is not found any more.
    return [replace(found[number], score=scores[number] / whole) for number in best if number in found]
