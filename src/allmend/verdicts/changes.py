"""Rows that base and tuned answer differently, in each direction, the clearest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from allmend.data import Row
from allmend.nouns.verdict import ChangedRow
from allmend.verdicts.question import Answers, Question

SHOWN = 5


def changes(question: Question, metric: str, higher: bool, base: Answers, tuned: Answers) -> dict[str, object]:
    """Counts and examples of rows that the metric scores differently, for the fields of a verdict."""
    before, after = base.numbers.get(metric, {}), tuned.numbers.get(metric, {})
    sign = 1 if higher else -1
    moved = {place: sign * (after[place] - before[place]) for place in before if place in after}
    up = sorted((place for place, by in moved.items() if by > 0), key=lambda place: (-moved[place], place))
    down = sorted((place for place, by in moved.items() if by < 0), key=lambda place: (moved[place], place))

    def shown(places: Sequence[int]) -> list[ChangedRow]:
        # A row whose answers can be read says more than one with two numbers.
        first = [place for place in places if _read(metric, place, base) and _read(metric, place, tuned)]
        return [
            changed_row(
                question.rows[place],
                _said(metric, place, base, before),
                _said(metric, place, tuned, after),
            )
            for place in (first or places)[:SHOWN]
        ]

    return {"gained": len(up), "lost": len(down), "gained_examples": shown(up), "lost_examples": shown(down)}


def _read(metric: str, place: int, answers: Answers) -> str | None:
    return answers.label_at.get(place) if metric == "accuracy" else answers.text_at.get(place)


def _said(metric: str, place: int, answers: Answers, numbers: Mapping[int, float]) -> str:
    text = _read(metric, place, answers)
    if metric == "accuracy":
        return str(text)
    number = f"{numbers[place]:.3g}"
    return f"{metric} {number}" if text is None else f"{short(text)} [{number}]"


def changed_row(row: Row, base: str, tuned: str) -> ChangedRow:
    """A row with both answers, its texts shortened."""
    return ChangedRow(place=row.place, prompt=short(row.given), expected=short(row.completion), base=base, tuned=tuned)


def short(text: str, limit: int = 240) -> str:
    """One line of at most `limit` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
