"""What the verdict that closes `allmend tune` asks, and what of it there is time for."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from allmend.data import Row
from allmend.errors import AllmendError
from allmend.models.loading import Loaded
from allmend.verbs.clock import Clock
from allmend.verdicts import forgetting
from allmend.verdicts.answers import answers_of, few_shot_answers
from allmend.verdicts.few_shot import choose_shots
from allmend.verdicts.free_text import seconds_a_token
from allmend.verdicts.lengths import limit_of
from allmend.verdicts.measure import prompt_ids
from allmend.verdicts.question import FEW_SHOT_ROWS, Answers, Question

if TYPE_CHECKING:
    from allmend.verbs.watching import Watch

_VERDICT_SHARE, _FEW_ROWS, _TRIED_ROWS = 0.4, 100, 32
_SHARE = 0.05
"""Of the budget that examples in the prompt may take, and forgetting as much again."""
_START = 3.0
"""Seconds for what is made ready each time a model writes."""
_FEWEST_WITH_SHOTS = 50
_SHORT = 128
"""Tokens: answers up to here are written without a look at the time."""
_WRITING_SHARE = 0.1
"""Of the budget that each of the two models may write long free text for."""
_TRIED_TEXTS, _FEWEST_TEXTS = 8, 24
_WHOLE_HEAD = 2.0
"""A general text costs so many times what a row of as many tokens does: every token of it is scored."""
_CHARACTERS = 3.5
"""Of a token of general English text."""

Choose = Callable[[str, object, str], None]
_LATER = "`allmend verdict RUN` measures it"


def judged_rows(loaded: Loaded, question: Question, clock: Clock, choose: Choose) -> Sequence[Row]:
    """All held-out rows, or a random part of them where judging all would eat up the budget."""
    rows = question.rows
    if len(rows) <= _FEW_ROWS:
        return rows
    took = []
    # What longer answers take is foreseen apart, by `writing_within`.
    short = min(_SHORT, limit_of(loaded, question))
    few_rows = _TRIED_ROWS // 4
    for count in (few_rows, few_rows, _TRIED_ROWS):  # what the first makes ready for all would hide what a row costs
        begun = clock.passed
        few = replace(question, rows=rows[:count], free_text_rows=count // 4, norms=None, longest_answer=short)
        answers_of(loaded, few)
        took.append(clock.passed - begun)
    each = max(1e-6, (took[2] - took[1]) / (_TRIED_ROWS - few_rows))
    count = int(max(_FEW_ROWS, _VERDICT_SHARE * clock.budget / 2 / each))
    if count >= len(rows):
        return rows
    choose("judged_rows", count, f"{each * 1000:.0f} ms a row: more would take over {_VERDICT_SHARE:.0%} of the budget")
    return random.Random(question.seed).sample(list(rows), count)


def writing_within(loaded: Loaded, question: Question, clock: Clock, choose: Choose) -> tuple[Question, float]:
    """The question with as much free text as a share of the budget lets each model write, where answers are long.

    Foreseen is that every answer goes on to its limit. Fewer rows are read then; where so few are left that they
    would tell little, answers are cut instead.

    Returns:
        The question, and the seconds that a written token takes at most; 0 where answers are short.
    """
    places, limit = question.text_places, limit_of(loaded, question)
    if not places or limit <= _SHORT:
        return question, 0.0
    tried = [question.rows[place] for place in places[:_TRIED_TEXTS]]
    each = seconds_a_token(loaded, [prompt_ids(loaded, row, question.template, room=limit) for row in tried])
    tokens = int(_WRITING_SHARE * clock.budget / each)
    if len(places) * limit <= tokens:
        return question, each
    rows = min(len(places), max(_FEWEST_TEXTS, tokens // limit))
    length = min(limit, max(_SHORT, tokens // rows))
    why = f"{each * 1000:.2g} ms a token: more would take over {_WRITING_SHARE:.0%} of the budget; {_LATER}"
    choose("free_text_rows", rows, why)
    if length < limit:
        choose("longest_answer", length, f"{limit} tokens would hold the longest expected answer; {why}")
    return replace(question, free_text_rows=-(-rows // question.texts_a_row), longest_answer=length), each


class More:
    """What goes beyond the rows: examples in the prompt, and what the model could do before.

    Args:
        took: seconds that the untuned model's answers to the rows took, without those of `writing`.
        lengths: tokens of each of these rows.
        writing: seconds that a long free-text answer takes at most.
    """

    def __init__(
        self,
        loaded: Loaded,
        clock: Clock,
        took: float,
        lengths: Sequence[int],
        choose: Choose,
        watch: Watch,
        writing: float = 0.0,
    ) -> None:
        self.loaded, self.clock, self.choose, self.watch = loaded, clock, choose, watch
        self._writing = writing
        self._token = took / max(1, sum(lengths))
        self._length = sum(lengths) / max(1, len(lengths))

    def with_shots(
        self, question: Question, train: Sequence[Row], count: int, length: float
    ) -> tuple[Question, Answers | None]:
        """The untuned model asked with `count` training rows (of `length` tokens each) in its prompt, on as many
        rows as there is time for."""
        shots = tuple(choose_shots(train, count, question.seed)) if count else ()
        if not shots:
            return question, None
        each = self._token * (self._length + len(shots) * length)
        texts = len(question.text_places)

        def foreseen(rows: int) -> float:
            """Rows with free text are asked first."""
            return _START + rows * each + min(rows, texts) * self._writing

        most, room = min(FEW_SHOT_ROWS, len(question.rows)), _SHARE * self.clock.budget
        rows = max((count for count in range(most + 1) if foreseen(count) <= room), default=0)
        least = min(_FEWEST_WITH_SHOTS, len(question.rows))
        if rows < least:
            why = f"it would take about {foreseen(least):.0f} s, over {_SHARE:.0%} of the budget; {_LATER}"
            self.choose("few_shot", 0, why)
            return question, None
        asked = replace(question, shots=shots, few_shot_rows=rows)
        self.watch.stage(f"Asking the untuned model with {len(shots)} examples in its prompt, on {rows} rows")
        found = few_shot_answers(self.loaded, asked)
        if found is None:
            self.choose("few_shot", 0, "the examples do not fit in the model's context")
            return question, None
        self.choose("few_shot", len(shots), f"on {rows} rows, about {foreseen(rows):.0f} s were foreseen")
        return asked, found

    def forgetting(self, question: Question, before: Answers) -> tuple[Question, float]:
        """What the untuned model can do now, into `before`, where there is time to ask twice.

        Returns:
            The question, and the seconds that this took.
        """
        foreseen = 2 * (_START + self._token * _WHOLE_HEAD * forgetting.CHARACTERS / _CHARACTERS)
        if foreseen > _SHARE * self.clock.budget:
            why = f"it would take about {foreseen:.0f} s, over {_SHARE:.0%} of the budget; {_LATER}"
            self.choose("forgetting", False, why)
            return question, 0.0
        with self.clock.paused():
            general = general_text(self.watch)
        self.watch.stage("Measuring what the untuned model can do besides")
        begun = self.clock.passed
        forgetting.measure(self.loaded, general, question.template, before)
        took = self.clock.passed - begun
        self.choose("forgetting", True, f"{took:.0f} s, once before and once after")
        return replace(question, general=general), took


def general_text(watch: Watch) -> forgetting.General:
    """General text and fixed questions; the questions alone where the text is not here and cannot be fetched."""
    try:
        return forgetting.general(watch.amount)
    except AllmendError as error:
        watch.note(f"General text for forgetting is not here ({error.message}); only the fixed questions are asked.")
        return forgetting.only_probes()
