"""What may honestly be said, and nothing more."""

from __future__ import annotations

from collections.abc import Sequence

from allmend.nouns.verdict import Measure, Words
from allmend.verdicts.intervals import fewest_rows, rows_for
from allmend.verdicts.question import Answers, Question

_FEW = 100
_WORTH_SEEING = 0.1


def words_of(measure: Measure, confidence: float = 0.95) -> Words:
    """The words that the interval of a measure allows, and its test too where it has one: the more cautious counts."""
    assert measure.low is not None and measure.high is not None
    return words_for(measure.low, measure.high, measure.higher_is_better, measure.p_value, confidence)


def words_for(
    low: float, high: float, higher_is_better: bool = True, p_value: float | None = None, confidence: float = 0.95
) -> Words:
    """`better` or `worse` only where the interval leaves zero out and the test agrees."""
    if p_value is not None and p_value > 1 - confidence + 1e-9:
        return "not shown to be better"
    if not higher_is_better:
        low, high = -high, -low
    if low > 0:
        return "better"
    return "worse" if high < 0 else "not shown to be better"


def too_few(question: Question) -> list[str]:
    """What to say when the held-out rows are few, or too few for any answer at all."""
    rows, confidence = len(question.rows), question.confidence
    least = fewest_rows(confidence)
    enough = rows_for(_WORTH_SEEING, confidence=confidence)
    if rows < least:
        return [
            f"{rows} held-out rows are too few for any conclusion: even if all of them changed for the better that "
            f"could be chance. {least} is the least; about {enough} would show a difference of "
            f"{_WORTH_SEEING:.0%} of the rows."
        ]
    if rows < _FEW:
        return [
            f"{rows} held-out rows are few: the interval is wide. About {enough} would show a difference of "
            f"{_WORTH_SEEING:.0%} of the rows, when a quarter of them changes at all."
        ]
    return []


def notes_of(question: Question, base: Answers, tuned: Answers, few_shot: Answers | None) -> list[str]:
    """What was not done, or should be known when reading the verdict."""
    notes = too_few(question)
    if question.labels is not None and not question.by_label:
        notes.append("Only one label occurs, so accuracy says nothing; the words rest on the loss.")
    if base.texts and len(base.sample) < len(question.rows):
        notes.append(f"Free text was read on {len(base.sample)} of {len(question.rows)} held-out rows.")
    notes += _cut_off(base, tuned, few_shot)
    if question.temperature > 0:
        notes.append(f"Free text was drawn at temperature {question.temperature:g}, seed {question.seed}.")
    if base.cut:
        notes.append(f"{base.cut} held-out rows are longer than the context; the start of their prompt was not read.")
    if question.shots and few_shot is None:
        notes.append("The untuned model was not asked with examples: they do not fit in its context.")
    if not question.shots:
        notes.append("The untuned model was not asked with examples in its prompt.")
    if question.norms is None:
        notes.append("No norms were given, so none were checked.")
    if question.general is None:
        notes.append("Forgetting (what the model could do before) was not measured.")
    return notes


def _cut_off(base: Answers, tuned: Answers, few_shot: Answers | None) -> list[str]:
    asked = {"untuned": base, "tuned": tuned} | ({"untuned with examples": few_shot} if few_shot is not None else {})
    writings = {name: answers.writing for name, answers in asked.items()}
    if not any(writing.cut_off for writing in writings.values()):
        return []
    counts = ", ".join(f"{one.cut_off} of {one.answers} {name}" for name, one in writings.items() if one.answers)
    return [
        f"Free text reached the limit of {tuned.writing.limit} tokens and was cut there: {counts}. "
        "`allmend verdict RUN --longest-answer N` sets another."
    ]


def never_said_note(never: dict[str, list[str]]) -> Sequence[str]:
    """A sentence for labels that the tuned model never gives."""
    labels = never.get("tuned", [])
    if not labels:
        return []
    shown = ", ".join(map(repr, labels[:5])) + (", …" if len(labels) > 5 else "")
    return [f"The tuned model never answers {shown}, though held-out rows expect it."]
