"""A verdict: both models on the same held-out rows, and what may honestly be said about the difference."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from allmend.adapters import LoraSet
from allmend.data import Row, Template
from allmend.errors import InputError
from allmend.models.loading import Loaded
from allmend.nouns.verdict import ChangedRow, Measure, Verdict, Words
from allmend.verdicts.free_text import write_answers
from allmend.verdicts.intervals import mcnemar, paired_interval, rows_needed
from allmend.verdicts.measure import answer_labels, cut_rows, row_losses
from allmend.verdicts.metrics import exact_match, macro_f1

_SHOWN = 5
_LONGEST_ANSWER = 128
_LOSS_ROWS = 250


@dataclass(frozen=True)
class Question:
    """What the verdict is about, and how much is measured."""

    rows: Sequence[Row]
    labels: Sequence[str] | None
    template: Template
    adapter: str
    data: str
    run: str | None = None
    confidence: float = 0.95
    seed: int = 0
    free_text_rows: int = 64
    """Rows that both models also answer in free text; a random sample, since writing is slow."""


@dataclass
class Answers:
    """What one model gave on the held-out rows."""

    losses: list[float]
    labels: list[str] | None = None
    texts: list[str] = field(default_factory=list)
    sample: list[Row] = field(default_factory=list)
    cut: int = 0
    """Rows longer than the context."""


Report = Callable[[str], None]


def answers_of(loaded: Loaded, question: Question, report: Report = lambda what: None) -> Answers:
    """Measure the model as it is in memory now, on the rows of the question."""
    report("loss a token")
    losses = row_losses(loaded, _loss_rows(question), question.template)
    answers = Answers(losses, cut=cut_rows(loaded, question.rows, question.template))
    if question.labels and len(question.labels) > 1:
        report("labels")
        answers.labels = answer_labels(loaded, question.rows, question.labels, question.template).labels
    answers.sample = _sample(question)
    if answers.sample:
        report("free text")
        longest = _answer_tokens(loaded, answers.sample)
        answers.texts = write_answers(loaded, answers.sample, question.template, longest)
    return answers


def judge(
    loaded: Loaded,
    lora: LoraSet,
    question: Question,
    report: Report = lambda what: None,
    base_answers: Answers | None = None,
) -> Verdict:
    """Compare the model with and without its LoRA.

    Args:
        base_answers: what `answers_of` gave for the untuned model on the same question, when it was measured before.

    Raises:
        InputError: there are no held-out rows.
    """
    if not question.rows:
        raise InputError(
            "there are no held-out rows to judge on",
            where=question.data,
            hint="Give --held-out FILE, or more rows: a tenth is held out.",
        )
    if base_answers is None:
        with lora.disabled():
            base_answers = answers_of(loaded, question, lambda what: report(f"untuned: {what}"))
    tuned = answers_of(loaded, question, lambda what: report(f"tuned: {what}"))
    return _verdict(loaded, question, base_answers, tuned)


def _verdict(loaded: Loaded, question: Question, base: Answers, tuned: Answers) -> Verdict:
    measures: list[Measure] = []
    more: dict[str, Any] = {}
    if base.labels is not None and tuned.labels is not None:
        right = [row.completion for row in question.rows]
        before, after = _right(base.labels, right), _right(tuned.labels, right)
        how = "the label with the highest score after the prompt"
        measures.append(_measure(question, "accuracy", before, after, how=how))
        measures.append(_f1(base.labels, tuned.labels, right))
        more = _changes(question.rows, base.labels, tuned.labels)
        needed = rows_needed(before, after, confidence=question.confidence)
    else:
        needed = rows_needed(base.losses, tuned.losses, confidence=question.confidence)
    measures.append(
        _measure(question, "loss", base.losses, tuned.losses, higher=False, how="per learned token, mean over rows")
    )
    if base.texts:
        expected = [row.completion for row in base.sample]
        how = f"greedy answers to {len(expected)} random held-out rows, up to case and spaces"
        before, after = exact_match(base.texts, expected), exact_match(tuned.texts, expected)
        measures.append(_measure(question, "exact_match", before, after, how=how))
    words = _words(measures[0])
    return Verdict(
        words=words,
        metric=measures[0].name,
        measures=measures,
        confidence=question.confidence,
        held_out_rows=len(question.rows),
        model=loaded.about.name,
        adapter=question.adapter,
        template=question.template.name,
        data=question.data,
        run=question.run,
        rows_needed=needed if words == "not shown to be better" else None,
        notes=_notes(question, base),
        **more,
    )


def _right(answers: Sequence[str], expected: Sequence[str]) -> list[float]:
    return [float(answer == right) for answer, right in zip(answers, expected, strict=True)]


def _measure(
    question: Question, name: str, base: list[float], tuned: list[float], higher: bool = True, how: str = ""
) -> Measure:
    low, high = paired_interval(base, tuned, question.confidence, question.seed)
    means = sum(base) / len(base), sum(tuned) / len(tuned)
    return Measure(
        name=name,
        base=means[0],
        tuned=means[1],
        difference=means[1] - means[0],
        low=low,
        high=high,
        rows=len(base),
        higher_is_better=higher,
        how=how,
    )


def _f1(base: list[str], tuned: list[str], right: list[str]) -> Measure:
    values = macro_f1(base, right), macro_f1(tuned, right)
    return Measure(
        name="macro_f1",
        base=values[0],
        tuned=values[1],
        difference=values[1] - values[0],
        rows=len(right),
        how="F1 averaged over labels; no interval",
    )


def _words(measure: Measure) -> Words:
    """The words that the interval of the main measure allows."""
    assert measure.low is not None and measure.high is not None
    low, high = (measure.low, measure.high) if measure.higher_is_better else (-measure.high, -measure.low)
    if low > 0:
        return "better"
    return "worse" if high < 0 else "not shown to be better"


def _changes(rows: Sequence[Row], base: Sequence[str], tuned: Sequence[str]) -> dict[str, Any]:
    gained: list[ChangedRow] = []
    lost: list[ChangedRow] = []
    for row, before, after in zip(rows, base, tuned, strict=True):
        if (before == row.completion) == (after == row.completion):
            continue
        changed = ChangedRow(
            place=row.place, prompt=_short(row.prompt), expected=row.completion, base=before, tuned=after
        )
        (gained if after == row.completion else lost).append(changed)
    return {
        "gained": len(gained),
        "lost": len(lost),
        "gained_examples": gained[:_SHOWN],
        "lost_examples": lost[:_SHOWN],
        "p_value": mcnemar(len(gained), len(lost)),
    }


def _short(text: str, limit: int = 240) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _loss_rows(question: Question) -> Sequence[Row]:
    """The rows whose loss is measured: all, or a random part of them where labels carry the verdict."""
    if not question.labels or len(question.labels) < 2 or len(question.rows) <= _LOSS_ROWS:
        return question.rows
    return random.Random(question.seed).sample(list(question.rows), _LOSS_ROWS)


def _sample(question: Question) -> list[Row]:
    """Random rows for free text: the file's order may be sorted by label or date."""
    rows = [row for row in question.rows if row.text is None]
    count = min(question.free_text_rows, len(rows))
    return random.Random(question.seed).sample(rows, count)


def _answer_tokens(loaded: Loaded, rows: Sequence[Row]) -> int:
    """Enough tokens for the longest expected answer and its end."""
    encoded = loaded.tokenizer([row.completion for row in rows], add_special_tokens=False)["input_ids"]
    return min(_LONGEST_ANSWER, max(map(len, encoded)) + 4)


def _notes(question: Question, base: Answers) -> list[str]:
    notes = []
    if question.labels is not None and len(question.labels) < 2:
        notes.append("Only one label occurs, so accuracy says nothing; the words rest on the loss.")
    if base.texts and len(base.sample) < len(question.rows):
        notes.append(f"Free text was read on {len(base.sample)} of {len(question.rows)} held-out rows.")
    if base.cut:
        notes.append(f"{base.cut} held-out rows are longer than the context; the start of their prompt was not read.")
    if len(question.rows) < 100:
        notes.append(f"{len(question.rows)} held-out rows are few: the interval is wide.")
    notes.append("Forgetting (what the model could do before) was not measured.")
    return notes
