"""What a metric is: a number for each answer, and what becomes of an answer that it cannot give one for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from allmend.data import Row

Score = Callable[[str, Row], float]
"""(answer, row) to a number."""


@dataclass(frozen=True)
class Fault:
    """An answer that a metric gave no number for."""

    place: str
    """The row's `file:line`."""
    reason: str


@dataclass(frozen=True)
class Metric:
    """A number for each answer to a row.

    One of `score` and `score_all` is given; `score_all` is for what works on many answers at once (code in a box,
    a judge over HTTP) and returns a number or a `Fault` for each.
    """

    name: str
    how: str
    """How it is measured, in a sentence."""
    score: Score | None = None
    score_all: Callable[[Sequence[str], Sequence[Row]], list[float | Fault]] | None = None
    higher_is_better: bool = True
    samples: int = 1
    """Answers drawn for each row, whose numbers are averaged; more than one are drawn at `temperature`."""
    temperature: float = 0.0
    fits: Callable[[Row], bool] = field(default=lambda row: True)
    """Whether a row can be judged by it at all."""

    def scores(self, answers: Sequence[str], rows: Sequence[Row]) -> list[float | Fault]:
        """A number for each answer, or a `Fault` that names the row; never raises for an answer."""
        if self.score_all is not None:
            return self.score_all(answers, rows)
        assert self.score is not None
        return [_one(self.score, answer, row) for answer, row in zip(answers, rows, strict=True)]


def _one(score: Score, answer: str, row: Row) -> float | Fault:
    try:
        value = float(score(answer, row))
    except Exception as error:
        return Fault(row.place, f"{type(error).__name__}: {error}")
    if value != value or value in (float("inf"), float("-inf")):
        return Fault(row.place, f"it gave {value}, which is no number to average")
    return value
