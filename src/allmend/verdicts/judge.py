"""A verdict: models on the same held-out rows, and what may honestly be said about the difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allmend.adapters import LoraSet
from allmend.errors import InputError
from allmend.models.loading import Loaded
from allmend.nouns.verdict import Measure, Verdict
from allmend.verdicts import forgetting, norms
from allmend.verdicts.answers import answers_of, few_shot_answers
from allmend.verdicts.changes import changes
from allmend.verdicts.intervals import (
    FEWEST_OF_A_LABEL,
    detectable,
    f1_interval,
    is_yes_no,
    p_value,
    paired_interval,
    rows_needed,
)
from allmend.verdicts.metrics import Metric, macro_f1, never_said
from allmend.verdicts.question import Answers, Question, Report
from allmend.verdicts.words import never_said_note, notes_of, words_for, words_of

__all__ = ["Answers", "Question", "answers_of", "few_shot_answers", "judge", "measure_of", "verdict_from"]

_FAULTS_NAMED = 5
_HOW = {
    "accuracy": "the label with the highest score after the prompt",
    "loss": "per learned token, mean over rows",
    "macro_f1": "F1 averaged over labels",
}


def judge(
    loaded: Loaded,
    lora: LoraSet,
    question: Question,
    report: Report = lambda what: None,
    base_answers: Answers | None = None,
    few_shot: Answers | None = None,
) -> Verdict:
    """Compare the model with and without its LoRA.

    Args:
        base_answers: what `answers_of` gave for the untuned model on the same question, when it was measured before.
        few_shot: what `few_shot_answers` gave for it.

    Raises:
        InputError: there are no held-out rows, or the metric that carries the words gave no number for any of them.
    """
    if not question.rows:
        raise InputError(
            "there are no held-out rows to judge on",
            where=question.data,
            hint="Give --held-out FILE, or more rows: a tenth is held out.",
        )
    with lora.disabled():
        if base_answers is None:
            base_answers = answers_of(loaded, question, lambda what: report(f"untuned: {what}"))
        if few_shot is None and question.shots:
            few_shot = few_shot_answers(loaded, question, lambda what: report(f"untuned: {what}"))
    tuned = answers_of(loaded, question, lambda what: report(f"tuned: {what}"))
    return verdict_from(loaded.about.name, question, base_answers, tuned, few_shot)


def verdict_from(
    model: str, question: Question, base: Answers, tuned: Answers, few_shot: Answers | None = None
) -> Verdict:
    """The verdict that answers allow; nothing is measured here."""
    names = [metric.name if isinstance(metric, Metric) else metric for metric in question.metrics]
    if "loss" not in names:
        names.append("loss")
    names = _with_accuracy(names)
    measures = [measure_of(name, question, base, tuned, few_shot) for name in names]
    main = _main(measures, question, base, tuned)
    pairs = _pairs(main.name, base, tuned)
    words = words_of(main, question.confidence)
    never = _never_said(question, base, tuned)
    found = [measure for measure in measures if measure is not None]
    return Verdict(
        words=words,
        metric=main.name,
        measures=[main, *(measure for measure in found if measure.name != main.name)],
        confidence=question.confidence,
        interval=_interval_kind(main.name, pairs, question),
        p_value=main.p_value,
        held_out_rows=len(question.rows),
        model=model,
        adapter=question.adapter,
        template=question.template.name,
        data=question.data,
        run=question.run,
        few_shot=len(question.shots) if few_shot is not None else 0,
        few_shot_words=_few_shot_words(main, question.confidence),
        temperature=question.temperature,
        rows_needed=rows_needed(*pairs, confidence=question.confidence) if words == "not shown to be better" else None,
        detectable=detectable(*pairs, confidence=question.confidence),
        never_said=never,
        norms=norms.results(question.norms, base, tuned) if question.norms is not None else None,
        forgetting=forgetting.compared(question.general, base, tuned, question.confidence)
        if question.general is not None
        else None,
        notes=[*_handed_over(measures, main), *never_said_note(never), *notes_of(question, base, tuned, few_shot)],
        **_changed(question, main, base, tuned),
    )


def measure_of(
    name: str, question: Question, base: Answers, tuned: Answers, few_shot: Answers | None = None
) -> Measure | None:
    """One metric for base and tuned on the rows that both have a number for; None where there are none."""
    higher, how = _about(name, question)
    if name == "macro_f1":
        return _f1(question, base, tuned, few_shot)
    before, after = _pairs(name, base, tuned)
    if not before:
        return None
    low, high = paired_interval(before, after, *_interval_of(question))
    faults = {fault.place: fault for answers in (base, tuned) for fault in answers.faults.get(name, ())}
    return Measure(
        name=name,
        base=sum(before) / len(before),
        tuned=sum(after) / len(after),
        difference=sum(after) / len(after) - sum(before) / len(before),
        low=low,
        high=high,
        rows=len(before),
        higher_is_better=higher,
        how=how,
        p_value=p_value(before, after),
        failed=len(faults),
        faults=[f"{fault.place}: {fault.reason}" for fault in list(faults.values())[:_FAULTS_NAMED]],
        **_over_few_shot(name, question, tuned, few_shot),
    )


def _pairs(name: str, base: Answers, tuned: Answers) -> tuple[list[float], list[float]]:
    """Numbers of the rows that both were given one for."""
    name = "accuracy" if name == "macro_f1" else name
    before, after = base.numbers.get(name, {}), tuned.numbers.get(name, {})
    places = [place for place in sorted(before) if place in after]
    return [before[place] for place in places], [after[place] for place in places]


def _over_few_shot(name: str, question: Question, tuned: Answers, few_shot: Answers | None) -> dict[str, Any]:
    before, after = _pairs(name, few_shot, tuned) if few_shot is not None else ([], [])
    if not before:
        return {}
    low, high = paired_interval(before, after, *_interval_of(question))
    return {
        "few_shot": sum(before) / len(before),
        "few_shot_rows": len(before),
        "over_few_shot": (sum(after) - sum(before)) / len(before),
        "over_few_shot_low": low,
        "over_few_shot_high": high,
    }


def _f1(question: Question, base: Answers, tuned: Answers, few_shot: Answers | None) -> Measure | None:
    if not base.label_at or not tuned.label_at:
        return None
    right, before, after = _labels(question, base.label_at, tuned.label_at)
    interval = f1_interval(before, after, right, *_interval_of(question))
    low, high = interval or (None, None)
    more: dict[str, Any] = {}
    if few_shot is not None and few_shot.label_at:
        right_few, with_shots, after_few = _labels(question, few_shot.label_at, tuned.label_at)
        values = macro_f1(with_shots, right_few), macro_f1(after_few, right_few)
        over = f1_interval(with_shots, after_few, right_few, *_interval_of(question)) or (None, None)
        more = {"few_shot": values[0], "few_shot_rows": len(right_few), "over_few_shot": values[1] - values[0],
                "over_few_shot_low": over[0], "over_few_shot_high": over[1]}  # fmt: skip
    base_f1, tuned_f1 = macro_f1(before, right), macro_f1(after, right)
    how = _HOW["macro_f1"] + ("" if interval else "; no interval, since the rarest label has too few rows")
    return Measure(name="macro_f1", base=base_f1, tuned=tuned_f1, difference=tuned_f1 - base_f1, low=low, high=high,
                   rows=len(right), how=how, **more)  # fmt: skip


def _labels(
    question: Question, first: Mapping[int, str], second: Mapping[int, str]
) -> tuple[list[str], list[str], list[str]]:
    places = [place for place in sorted(first) if place in second]
    expected = [question.rows[place].completion for place in places]
    return expected, [first[place] for place in places], [second[place] for place in places]


def _about(name: str, question: Question) -> tuple[bool, str]:
    for metric in question.metrics:
        if isinstance(metric, Metric) and metric.name == name:
            return metric.higher_is_better, metric.how
    return name != "loss", _HOW.get(name, "")


def _main(measures: list[Measure | None], question: Question, base: Answers, tuned: Answers) -> Measure:
    """The measure that carries the words: the first asked for; F1 hands over to accuracy where it has no interval."""
    first = measures[0]
    if first is not None and first.low is not None:
        return first
    if first is not None:
        return next(m for m in measures if m is not None and m.low is not None)
    metric = question.metrics[0]
    name = metric.name if isinstance(metric, Metric) else metric
    faults = [*base.faults.get(name, ()), *tuned.faults.get(name, ())]
    raise InputError(
        f"the metric {name} gave no number for any held-out row",
        where=question.data,
        hint=f"{faults[0].place}: {faults[0].reason}"
        if faults
        else "Labels need a classification, pass@k rows with tests; --metric names another.",
    )


def _with_accuracy(names: list[str]) -> list[str]:
    """With accuracy after macro F1, which hands over to it: the loss would say something else about the labels."""
    if "macro_f1" not in names or "accuracy" in names[: names.index("macro_f1")]:
        return names
    rest = [name for name in names if name != "accuracy"]
    place = rest.index("macro_f1") + 1
    return [*rest[:place], "accuracy", *rest[place:]]


def _handed_over(measures: list[Measure | None], main: Measure) -> list[str]:
    first = measures[0]
    if first is None or first.name == main.name:
        return []
    return [
        f"{first.name} has no interval, since the rarest label has fewer than {FEWEST_OF_A_LABEL} held-out rows; the "
        f"words rest on {main.name}, which says little about rare labels."
    ]


def _interval_of(question: Question) -> tuple[float, int, int]:
    return question.confidence, question.seed, question.resamples


def _interval_kind(name: str, pairs: tuple[list[float], list[float]], question: Question) -> str:
    if question.resamples:
        return f"paired bootstrap, percentiles of {question.resamples} resamples, seed {question.seed}"
    if name == "macro_f1":
        return "paired, by each row's influence on F1"
    import numpy as np

    yes_no = all(is_yes_no(np.asarray(side)) for side in pairs)
    return "paired, Tango's score interval" if yes_no else "paired, t corrected for skewness"


def _few_shot_words(main: Measure, confidence: float) -> Any:
    if main.over_few_shot_low is None or main.over_few_shot_high is None:
        return None
    return words_for(main.over_few_shot_low, main.over_few_shot_high, main.higher_is_better, None, confidence)


def _never_said(question: Question, base: Answers, tuned: Answers) -> dict[str, list[str]]:
    if not question.by_label or base.labels is None or tuned.labels is None:
        return {}
    right = [row.completion for row in question.rows]
    found = {"untuned": never_said(base.labels, right), "tuned": never_said(tuned.labels, right)}
    return {name: labels for name, labels in found.items() if labels}


def _changed(question: Question, main: Measure, base: Answers, tuned: Answers) -> dict[str, Any]:
    name = "accuracy" if main.name == "macro_f1" else main.name
    return dict(changes(question, name, main.higher_is_better, base, tuned))
