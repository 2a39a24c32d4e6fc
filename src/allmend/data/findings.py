"""A finding about rows, as every check makes it."""

from __future__ import annotations

from collections.abc import Iterable

from allmend.data.rows import Row
from allmend.nouns.data_report import DataProblem, ProblemId, ProblemSeverity

SHOWN_ROWS = 5
"""How many places a problem names."""


def finding(
    name: ProblemId, severity: ProblemSeverity, message: str, rows: Iterable[Row], fix: str = ""
) -> list[DataProblem]:
    """A problem that `rows` have; none at all when there are no rows."""
    places = [row.place for row in rows]
    if not places:
        return []
    shown = places[:SHOWN_ROWS]
    return [DataProblem(id=name, severity=severity, message=message, count=len(places), rows=shown, fix=fix)]
