"""The verdict of a tuning run: the question, the untuned answers before it, the tuned ones after it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from allmend.verdicts.judge import Question, answers_of, judge

if TYPE_CHECKING:
    from allmend.adapters import LoraSet
    from allmend.data import Row
    from allmend.nouns.verdict import Verdict
    from allmend.runs import Recorder
    from allmend.verbs.tuning_work import Tuning

_SHARE, _FEW_ROWS, _TRIED_ROWS = 0.4, 100, 32


class Judging:
    """Asks the untuned model on construction, and later the tuned one the same."""

    def __init__(self, tuning: Tuning) -> None:
        self.tuning = tuning
        self.question = self._question()
        tuning.watch.stage(f"Measuring the untuned model on {len(self.question.rows)} held-out rows")
        begun = tuning.clock.passed
        self.before = answers_of(tuning.loaded, self.question)
        self.seconds = (tuning.clock.passed - begun) * 1.05 + 1.0
        """What the verdict will take: the tuned model is asked the same, and intervals are drawn."""
        self._say_untuned()

    def of(self, lora: LoraSet, stopped: bool = False) -> None:
        """Judge the model with `lora` in it."""
        tuning, rows = self.tuning, f"{len(self.question.rows)} held-out rows"
        tuning.watch.stage(
            f"Stopped. Judging the best so far on {rows}; Ctrl-C again leaves that out"
            if stopped
            else f"Judging it on {rows}"
        )
        verdict = judge(tuning.loaded, lora, self.question, base_answers=self.before)
        write_verdict(tuning.run, verdict)
        tuning.run.metric(0, budget_seconds=tuning.settings.budget, seconds=tuning.clock.passed)
        if stopped:
            main = verdict.main
            tuning.watch.note(f"{verdict.words}: {main.name} {main.base:.3f} untuned, {main.tuned:.3f} tuned")

    def _question(self) -> Question:
        tuning = self.tuning
        return Question(
            rows=self._rows(),
            labels=tuning.dataset.labels,
            template=tuning.template,
            adapter=str(tuning.run.folder / ("model" if tuning.settings.full else "adapter")),
            data=tuning.dataset.examples.source,
            run=tuning.run.id,
            seed=tuning.settings.seed,
        )

    def _rows(self) -> Sequence[Row]:
        """All held-out rows, or a random part of them where judging all would eat up the budget."""
        tuning = self.tuning
        rows = tuning.dataset.held_out
        if len(rows) <= _FEW_ROWS or tuning.replayed is not None:
            return rows
        question = Question(rows=rows, labels=tuning.dataset.labels, template=tuning.template, adapter="", data="")
        took = []
        for count in (_TRIED_ROWS // 4, _TRIED_ROWS):
            begun = tuning.clock.passed
            answers_of(tuning.loaded, replace(question, rows=rows[:count], free_text_rows=count // 4))
            took.append(tuning.clock.passed - begun)
        each = max(1e-6, (took[1] - took[0]) / (_TRIED_ROWS - _TRIED_ROWS // 4))
        count = int(max(_FEW_ROWS, _SHARE * tuning.clock.budget / 2 / each))
        if count >= len(rows):
            return rows
        tuning.choose(
            "judged_rows", count, f"{each * 1000:.0f} ms a row: more would take over {_SHARE:.0%} of the budget"
        )
        return random.Random(tuning.settings.seed).sample(list(rows), count)

    def _say_untuned(self) -> None:
        tuning, answers, rows = self.tuning, self.before, self.question.rows
        if answers.labels is not None:
            right = sum(a == row.completion for a, row in zip(answers.labels, rows, strict=True))
            tuning.watch.note(f"Untuned: {right / len(rows):.3f} of the labels are right.")
            tuning.run.metric(0, untuned_accuracy=right / len(rows))
        tuning.run.metric(0, untuned_loss=sum(answers.losses) / len(answers.losses))


def write_verdict(run: Recorder, verdict: Verdict) -> None:
    """Keep a verdict beside its run."""
    path = run.folder / "verdict.json"
    hidden = path.with_name(".verdict.json.new")
    hidden.write_text(verdict.to_json(), "utf-8")
    hidden.replace(path)
    run.output("verdict", path)
