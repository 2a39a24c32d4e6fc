"""Numbers over a whole set of labels."""

from __future__ import annotations

from collections.abc import Sequence


def macro_f1(answers: Sequence[str], expected: Sequence[str]) -> float:
    """F1 of each label that is expected anywhere, averaged: rare labels weigh as much as common ones."""
    scores = []
    pairs = list(zip(answers, expected, strict=True))
    for label in sorted(set(expected)):
        hit = sum(a == label and e == label for a, e in pairs)
        false = sum(a == label and e != label for a, e in pairs)
        missed = sum(a != label and e == label for a, e in pairs)
        scores.append(2 * hit / (2 * hit + false + missed) if hit else 0.0)
    return sum(scores) / len(scores) if scores else 0.0


def never_said(answers: Sequence[str], expected: Sequence[str]) -> list[str]:
    """Labels that are expected somewhere and were never answered."""
    return sorted(set(expected) - set(answers))
