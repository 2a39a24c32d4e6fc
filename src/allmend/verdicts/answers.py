"""Measuring one model, as it is in memory now, on all that a question asks."""

from __future__ import annotations

import time
from collections.abc import Sequence

from allmend.data import Row
from allmend.engines.text import Completion
from allmend.models.loading import Loaded
from allmend.verdicts import forgetting
from allmend.verdicts import norms as norms_file
from allmend.verdicts.few_shot import with_shots
from allmend.verdicts.free_text import write_answers
from allmend.verdicts.lengths import limit_of, needed, rooms
from allmend.verdicts.measure import answer_labels, cut_rows, prompt_ids, row_losses, shot_losses
from allmend.verdicts.metrics import Fault, Metric
from allmend.verdicts.metrics.code import k_of, pass_at_k
from allmend.verdicts.question import Answers, Question, Report, Writing

_SAID_BY_SCORE = "labels"


def answers_of(loaded: Loaded, question: Question, report: Report = lambda what: None) -> Answers:
    """Measure the model on the rows of the question, its norms and its forgetting."""
    report("loss a token")
    places = question.loss_places
    losses = row_losses(loaded, [question.rows[place] for place in places], question.template)
    answers = Answers(losses, cut=cut_rows(loaded, question.rows, question.template))
    answers.numbers["loss"] = dict(zip(places, losses, strict=True))
    if question.by_label:
        report(_SAID_BY_SCORE)
        _labels(loaded, question, answers, list(range(len(question.rows))), ())
        answers.labels = [answers.label_at[place] for place in range(len(question.rows))]
    _written(loaded, question, answers, question.text_places, (), report)
    answers.sample = [question.rows[place] for place in question.text_places if place in answers.text_at]
    answers.texts = [answers.text_at[place] for place in question.text_places if place in answers.text_at]
    if question.norms is not None:
        report("norms")
        norms_file.ask(loaded, question.norms, question.template, answers)
    if question.general is not None:
        report("what it could do before")
        forgetting.measure(loaded, question.general, question.template, answers)
    return answers


def few_shot_answers(loaded: Loaded, question: Question, report: Report = lambda what: None) -> Answers | None:
    """Measure the model with the question's shots in its prompt; None where they do not fit or there are none."""
    places = question.few_shot_places
    if not places or not _fit(loaded, question, places):
        return None
    report(f"{len(question.shots)} examples in the prompt")
    answers = Answers([])
    if question.by_label:
        _labels(loaded, question, answers, places, question.shots)
    with_loss = [place for place in places if question.rows[place].kind == "prompt_completion"]
    rows = [question.rows[place] for place in with_loss]
    answers.losses = shot_losses(loaded, rows, question.template, question.shots)
    answers.numbers["loss"] = dict(zip(with_loss, answers.losses, strict=True))
    kept = set(places)
    _written(loaded, question, answers, [p for p in question.text_places if p in kept], question.shots, report)
    return answers


def _fit(loaded: Loaded, question: Question, places: Sequence[int]) -> bool:
    """Whether the shots leave the longest of the rows whole."""
    longest = max(places, key=lambda place: len(question.rows[place].given) + len(question.rows[place].completion))
    row = question.rows[longest]
    talk = tuple(with_shots(row.as_messages(), question.shots))
    whole = Row(messages=talk, prompt="?", completion=row.completion, tools=row.tools)
    (room,) = needed(loaded, [row], question.template) if row.kind != "text" else (0,)
    return len(prompt_ids(loaded, whole, question.template, room=0)) + room <= loaded.context


def _labels(loaded: Loaded, question: Question, answers: Answers, places: list[int], shots: Sequence[Row]) -> None:
    rows = [question.rows[place] for place in places]
    assert question.labels is not None
    found = answer_labels(loaded, rows, question.labels, question.template, shots).labels
    answers.label_at = dict(zip(places, found, strict=True))
    answers.numbers["accuracy"] = {
        place: float(label == question.rows[place].completion) for place, label in answers.label_at.items()
    }


def _written(
    loaded: Loaded, question: Question, answers: Answers, places: list[int], shots: Sequence[Row], report: Report
) -> None:
    """Free text for the rows at `places`, once for each way of drawing it that the metrics ask for, and its scores."""
    if not places:
        return
    rows = [question.rows[place] for place in places]
    answers.writing.limit = limit = limit_of(loaded, question)
    free = rooms(loaded, rows, question, limit)
    drawn: dict[tuple[int, float], list[list[str]]] = {}
    plain = (1, question.temperature)
    metrics: list[Metric | None] = [*question.written]
    for metric in metrics or [None]:
        way = plain if metric is None or metric.samples == 1 else (metric.samples, metric.temperature)
        if way not in drawn:
            report("free text")
            begun = time.perf_counter()
            written = write_answers(
                loaded,
                [row for row in rows for _ in range(way[0])],
                question.template,
                limit,
                rooms=[room for room in free for _ in range(way[0])],
                temperature=way[1],
                seed=question.seed,
                shots=shots,
            )
            _count(answers.writing, written, time.perf_counter() - begun)
            texts = [one.text for one in written]
            drawn[way] = [texts[start : start + way[0]] for start in range(0, len(texts), way[0])]
        answers.text_at = {place: many[0] for place, many in zip(places, drawn[way], strict=True)}
        if metric is not None:
            _score(metric, question, answers, places, drawn[way], report)


def _count(writing: Writing, written: Sequence[Completion], seconds: float) -> None:
    writing.answers += len(written)
    writing.cut_off += sum(one.finish == "length" for one in written)
    writing.tokens += sum(one.usage.completion for one in written)
    writing.seconds += seconds


def _score(
    metric: Metric,
    question: Question,
    answers: Answers,
    places: list[int],
    texts: list[list[str]],
    report: Report,
) -> None:
    fitting = [(place, many) for place, many in zip(places, texts, strict=True) if metric.fits(question.rows[place])]
    report(metric.name)
    flat = [(text, question.rows[place]) for place, many in fitting for text in many]
    scores = metric.scores([text for text, _ in flat], [row for _, row in flat]) if flat else []
    numbers: dict[int, float] = {}
    faults: list[Fault] = []
    for start, (place, many) in zip(range(0, len(scores), metric.samples), fitting, strict=True):
        got = scores[start : start + len(many)]
        failed = [score for score in got if isinstance(score, Fault)]
        if failed:
            faults.append(failed[0])
            continue
        values = [score for score in got if not isinstance(score, Fault)]
        k = k_of(metric)
        numbers[place] = sum(values) / len(values) if k is None else pass_at_k(round(sum(values)), len(values), k)
    answers.numbers[metric.name] = numbers
    answers.faults[metric.name] = faults
