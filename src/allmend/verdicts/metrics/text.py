"""Metrics of texts: the same, the same number, the same words in order, the same letters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

from allmend.data import Row
from allmend.errors import Unavailable
from allmend.verdicts.metrics.metric import Metric

_SPACES = re.compile(r"\s+")
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?")
_ANSWER_MARK = re.compile(r"####|\\boxed\{|(?i:\b(?:answer|result)\b\s*(?:is|:|=))")
_WORDS = re.compile(r"[a-z0-9]+")
_LONGEST_WORDS = 4000


def normal(text: str) -> str:
    """Text as it is compared: compatibility forms and case folded, spaces made one, ends trimmed."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()


def exact_match(answers: Sequence[str], expected: Sequence[str]) -> list[float]:
    """1 where the answer is the expected text, up to case and spaces."""
    return [float(normal(answer) == normal(right)) for answer, right in zip(answers, expected, strict=True)]


def number_in(text: str) -> float | None:
    """The number that a text answers with: the first after `####` or `answer is`, else the last one in it."""
    after = list(_ANSWER_MARK.finditer(text))
    if after:
        found = _NUMBER.search(text, after[-1].end())
        if found:
            return _value(found.group())
    numbers = _NUMBER.findall(text)
    return _value(numbers[-1]) if numbers else None


def _value(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def numeric_match(answer: str, expected: str) -> float:
    """1 where both end in the same number, to a relative difference of 1e-6."""
    right, said = number_in(expected), number_in(answer)
    if right is None:
        raise ValueError("the expected answer holds no number")
    return float(said is not None and abs(said - right) <= 1e-6 * max(1.0, abs(right)))


def rouge_l(answer: str, expected: str) -> float:
    """ROUGE-L F-measure (Lin 2004) of lower-case words, without stemming, as the package rouge-score counts them."""
    said, right = words(answer), words(expected)
    if not said or not right:
        return 0.0
    common = _common_subsequence(said, right)
    return 2 * common / (len(said) + len(right))


def words(text: str) -> list[str]:
    """Runs of ASCII letters and digits where the text has any, else its words by spaces; at most a few thousand."""
    found = _WORDS.findall(text.lower())
    return (found or text.lower().split())[:_LONGEST_WORDS]


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, the rows of the table as bits (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        match = places.get(word, 0)
        row = ((row + (row & match)) | (row & ~match)) & full
    return len(a) - row.bit_count()


def chrf(answer: str, expected: str) -> float:
    """chrF2 (Popović 2015) of one answer, from 0 to 1, by sacrebleu."""
    return float(_chrf().sentence_score(answer, [expected]).score) / 100


@cache
def _chrf() -> Any:
    try:
        from sacrebleu.metrics import CHRF
    except ImportError:
        raise Unavailable("chrF needs the package sacrebleu", hint="pip install 'allmend[tune]' brings it.") from None
    return CHRF()


def _against_completion(name: str, how: str, score: Any) -> Metric:
    def of_row(answer: str, row: Row) -> float:
        return float(score(answer, row.completion))

    return Metric(name, how, score=of_row)


EXACT = _against_completion("exact_match", "the same text up to case and spaces", lambda a, e: exact_match([a], [e])[0])
NUMERIC = Metric(
    "numeric_match",
    "the same number: the one after #### or 'answer is', else the last",
    score=lambda answer, row: numeric_match(answer, row.completion),
    fits=lambda row: number_in(row.completion) is not None,
)
ROUGE_L = _against_completion("rouge_l", "ROUGE-L F-measure of words, without stemming", rouge_l)
CHRF = _against_completion("chrf", "chrF2 of letters, by sacrebleu, from 0 to 1", chrf)
