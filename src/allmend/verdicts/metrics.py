"""Numbers from answers. A metric gives one number a row; a set metric one for all of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_SPACES = re.compile(r"\s+")


def normal(text: str) -> str:
    """Text as it is compared: compatibility forms and case folded, spaces made one, ends trimmed."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()


def exact_match(answers: Sequence[str], expected: Sequence[str]) -> list[float]:
    """1 where the answer is the expected text, up to case and spaces."""
    return [float(normal(answer) == normal(right)) for answer, right in zip(answers, expected, strict=True)]


def macro_f1(answers: Sequence[str], expected: Sequence[str]) -> float:
    """F1 of each label that is expected anywhere, averaged: rare labels weigh as much as common ones."""
    scores = []
    for label in sorted(set(expected)):
        pairs = list(zip(answers, expected, strict=True))
        hit = sum(a == label and e == label for a, e in pairs)
        false = sum(a == label and e != label for a, e in pairs)
        missed = sum(a != label and e == label for a, e in pairs)
        scores.append(2 * hit / (2 * hit + false + missed) if hit else 0.0)
    return sum(scores) / len(scores) if scores else 0.0
