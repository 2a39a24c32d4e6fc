"""Labels, where the completions of a file are labels: how many rows each has, and what is wrong with that."""

from __future__ import annotations

from collections import defaultdict

from allmend.data.findings import Found, about_all, finding
from allmend.data.rows import LabelCount, Row
from allmend.nouns.data_report import DataProblem

FEWEST_OF_LABEL = 10
_LOPSIDED = 0.9


class Classes:
    """Rows go in one by one; counts and a few places for each label are kept."""

    def __init__(self) -> None:
        self._count = LabelCount()
        self._found: dict[str, Found] = defaultdict(Found)

    def look(self, row: Row) -> None:
        """See the next row."""
        self._count.add(row)
        if self._count.possible:
            self._found[row.completion].add(row.place)
        else:
            self._found.clear()

    @property
    def labels(self) -> dict[str, int] | None:
        """Rows a label, most first; None where completions are no labels."""
        if self._count.labels() is None:
            return None
        counts = {label: found.count for label, found in self._found.items()}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def findings(self) -> list[DataProblem]:
        """What is wrong with the labels."""
        counts = self.labels
        if counts is None:
            return []
        total, largest = sum(counts.values()), max(counts.values())
        if len(counts) == 1:
            why = "every row has the same completion, so there is nothing to tell apart"
            return [about_all("one-class", "blocking", why, total, "Add rows of the other classes.")]
        found = []
        if largest > _LOPSIDED * total:
            why = f"have one and the same label: always saying it is right {largest / total:.0%} of the time"
            found.append(about_all("class-balance", "warning", why, largest, "Add rows of the rarer classes."))
        rare = self._of([label for label, count in counts.items() if count < FEWEST_OF_LABEL])
        why = f"have a label that fewer than {FEWEST_OF_LABEL} rows have"
        found += finding("rare-classes", "warning", why, rare, "Add rows of these labels, or merge them.")
        spellings = defaultdict(list)
        for label in counts:
            spellings[" ".join(label.casefold().split())].append(label)
        written = self._of([label for group in spellings.values() if len(group) > 1 for label in group])
        why = "have labels that differ only in letter case or spaces"
        return found + finding("label-variants", "warning", why, written, "Write each label one way.")

    def _of(self, labels: list[str]) -> Found:
        """Rows of several labels together."""
        together = Found()
        for label in sorted(labels):
            for place in self._found[label].places:
                together.add(place)
        together.count = sum(self._found[label].count for label in labels)
        return together
