"""Passages by meaning and by word, joined by their ranks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from allmend.documents.store import Found, Index

if TYPE_CHECKING:
    import numpy as np

_DEPTH = 50
_CONSTANT = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009)."""


def ask(
    index: Index,
    question: str,
    vector: np.ndarray,
    *,
    most: int = 10,
    weights: tuple[float, float] = (1.0, 1.0),
    among: Collection[int] | None = None,
) -> list[Found]:
    """Passages, best first; `score` is 1 where meaning and words both put a passage first, and falls with its ranks.

    Args:
        vector: the question's embedding by the index's model.
        weights: of meaning and of words, which find names and numbers that meaning alone misses.
        among: passages to choose from; all when not given.
    """
    depth = max(_DEPTH, most)
    meaning, words = weights
    ranks: list[tuple[float, list[int]]] = []
    if meaning > 0:
        ranks.append((meaning, [number for number, _ in index.by_meaning(vector, depth, among)]))
    if words > 0:
        ranks.append((words, index.by_word(question, depth, among)))
    scores: dict[int, float] = {}
    for weight, rank in ranks:
        for place, number in enumerate(rank, 1):
            scores[number] = scores.get(number, 0.0) + weight / (_CONSTANT + place)
    best = sorted(scores, key=lambda number: (-scores[number], number))[:most]
    found = index.get(best)
    whole = sum(weight for weight, _ in ranks) / (_CONSTANT + 1)
    # One that was removed meanwhile is not found any more.
    return [replace(found[number], score=scores[number] / whole) for number in best if number in found]
