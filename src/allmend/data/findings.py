"""A finding about rows, as every check makes it: how many rows, and where the first of them stand."""

from __future__ import annotations

from array import array

from allmend.nouns.data_report import DataProblem, ProblemId, ProblemSeverity

SHOWN_ROWS = 5
"""How many places a problem names."""


class Found:
    """Rows that have a problem, counted one by one; only the first places are kept."""

    def __init__(self) -> None:
        self.count = 0
        self.places: list[str] = []

    def add(self, place: str) -> None:
        """One more."""
        self.count += 1
        if len(self.places) < SHOWN_ROWS:
            self.places.append(place)


class Places:
    """Where each row stands, in eight bytes where that is a line of the file."""

    def __init__(self, name: str) -> None:
        self._name, self._line = name, f"{name}:"
        self._lines = array("q")
        self._others: list[str] = []

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, place: str) -> None:
        """The place of the next row."""
        if place.startswith(self._line):
            self._lines.append(int(place[len(self._line) :]))
        else:
            self._others.append(place.removeprefix(self._name))
            self._lines.append(-len(self._others))

    def __getitem__(self, row: int) -> str:
        line = self._lines[row]
        return f"{self._line}{line}" if line >= 0 else self._name + self._others[-line - 1]


def finding(name: ProblemId, severity: ProblemSeverity, message: str, found: Found, fix: str = "") -> list[DataProblem]:
    """A problem that rows have; none at all when there are no rows."""
    if not found.count:
        return []
    return [DataProblem(id=name, severity=severity, message=message, count=found.count, rows=found.places, fix=fix)]


def about_all(name: ProblemId, severity: ProblemSeverity, message: str, count: int, fix: str) -> DataProblem:
    """A problem of the set as a whole, which names no rows."""
    return DataProblem(id=name, severity=severity, message=message, count=count, fix=fix)
