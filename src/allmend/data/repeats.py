"""Rows that repeat others: exactly, nearly, with other answers, or in the held-out file."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from allmend.data.findings import Found, Places, finding
from allmend.data.likeness import Texts
from allmend.data.rows import Row
from allmend.data.wording import key
from allmend.nouns.data_report import DataProblem

Marked = NDArray[np.bool_]


class Repeats:
    """Rows go in one by one, and none is kept: digests in memory, word pairs in a temporary file."""

    def __init__(self, name: str) -> None:
        self._texts = Texts()
        self._places = Places(name)
        self._asked, self._both = array("Q"), array("Q")

    def look(self, row: Row) -> None:
        """See the next row."""
        question, answer = exact(row)
        self._texts.add(row.given)
        self._places.add(row.place)
        self._asked.append(key(question))
        self._both.append(key(f"{question}\0{answer}"))

    def findings(self, classes: bool) -> list[DataProblem]:
        """Duplicates, near duplicates, and the same prompt with other answers.

        Args:
            classes: whether completions are labels.
        """
        if not len(self._places):
            return []
        again = ~_is_first(np.frombuffer(self._both, np.uint64))
        differing = ~_is_first(np.frombuffer(self._asked, np.uint64)) & ~again
        alike = self._texts.likeness()
        _, first, of_group = np.unique(alike.groups, return_index=True, return_inverse=True)
        near = (alike.keys != alike.keys[first][of_group]) & ~again & ~differing
        why = "repeat an earlier row exactly (letter case and spaces aside)"
        found = finding("duplicates", "warning", why, self._found(again), "--fix OUT leaves them out.")
        if classes:
            why = "give another label to a prompt that came before"
            fix = "Decide for one; at most one of them can be right."
            found += finding("conflicting-labels", "warning", why, self._found(differing), fix)
        else:
            why = "answer a prompt that came before differently"
            found += finding("several-answers", "note", why, self._found(differing))
        fix = "Nothing: they stay on one side of the split."
        return found + finding("near-duplicates", "note", "nearly repeat an earlier row", self._found(near), fix)

    def leaks(self, held_out: Iterable[Row]) -> list[DataProblem]:
        """Rows that also stand in the held-out file; nothing can be looked at after it."""
        own = len(self._places)
        for row in held_out:
            self._texts.add(row.given)
        alike = self._texts.likeness()
        exactly = np.isin(alike.keys[:own], np.unique(alike.keys[own:]))
        nearly = np.isin(alike.groups[:own], np.unique(alike.groups[own:])) & ~exactly
        fix = "tune leaves them out of training when it gets the held-out file."
        return [
            *finding("leakage", "warning", "also stand in the held-out file", self._found(exactly), fix),
            *finding("near-leakage", "warning", "nearly repeat a row of the held-out file", self._found(nearly), fix),
        ]

    def _found(self, marked: Marked) -> Found:
        found = Found()
        for row in np.flatnonzero(marked).tolist():
            found.add(self._places[row])
        return found


def exact(row: Row) -> tuple[str, str]:
    """What makes two rows the same row: prompt (or text) and completion, letter case and spaces aside."""
    return " ".join(row.given.casefold().split()), " ".join(row.completion.split())


def _is_first(values: NDArray[np.uint64]) -> Marked:
    """Whether each value stands for the first time."""
    fresh = np.zeros(len(values), bool)
    fresh[np.unique(values, return_index=True)[1]] = True
    return fresh
