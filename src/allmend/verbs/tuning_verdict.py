"""The verdict of a tuning run: the question, the untuned answers before it, the tuned ones after it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from allmend.verbs.tuning_question import More, judged_rows, writing_within
from allmend.verdicts import norms
from allmend.verdicts.judge import Answers, Question, answers_of, judge

if TYPE_CHECKING:
    from allmend.adapters import LoraSet
    from allmend.data import Tokens
    from allmend.nouns.verdict import Verdict
    from allmend.runs import Recorder
    from allmend.verbs.tuning_work import Tuning


class Judging:
    """Asks the untuned model on construction, and later the tuned one the same."""

    def __init__(self, tuning: Tuning) -> None:
        self.tuning = tuning
        self.a_token = 0.0
        self.question = self._question()
        tuning.watch.stage(f"Measuring the untuned model on {len(self.question.rows)} held-out rows")
        begun = tuning.clock.passed
        self.before = answers_of(tuning.loaded, self.question)
        self._took = tuning.clock.passed - begun
        self._few_shot: Answers | None = None
        self._say_untuned()

    @property
    def seconds(self) -> float:
        """What the verdict will take: the tuned model is asked the same, and intervals are drawn.

        It may write long where the untuned one did not: time is kept for answers that all go on to their limit.
        """
        writing = self.before.writing
        return self._took * 1.05 + 1.0 + self.a_token * (writing.limit * writing.answers - writing.tokens)

    def more(self, rows: list[Tokens]) -> None:
        """What there is time for beyond the held-out rows: examples in the prompt, and what may be forgotten.

        Args:
            rows: what is trained on.
        """
        tuning, settings = self.tuning, self.tuning.settings
        lengths = [len(tokens) for tokens in tuning.encode(self.question.rows, told=False)]
        # Long answers take the same time again; short ones count as a part of what a row takes.
        writing = self.before.writing
        read = self._took - (writing.seconds if self.a_token else 0.0)
        more = More(
            tuning.loaded, tuning.clock, read, lengths, tuning.choose, tuning.watch, self.a_token * writing.limit
        )
        mean = sum(map(len, rows)) / max(1, len(rows))
        train = tuning.dataset.train
        self.question, self._few_shot = more.with_shots(self.question, train, settings.few_shot, mean)
        if settings.forgetting:
            self.question, again = more.forgetting(self.question, self.before)
            self._took += again

    def of(self, lora: LoraSet, stopped: bool = False) -> None:
        """Judge the model with `lora` in it."""
        tuning, rows = self.tuning, f"{len(self.question.rows)} held-out rows"
        tuning.watch.stage(
            f"Stopped. Judging the best so far on {rows}; Ctrl-C again leaves that out"
            if stopped
            else f"Judging it on {rows}"
        )
        verdict = judge(tuning.loaded, lora, self.question, base_answers=self.before, few_shot=self._few_shot)
        write_verdict(tuning.run, verdict)
        if tuning.norms is not None and not tuning.settings.full:
            norms.remember(tuning.norms, tuning.run.folder / "adapter", tuning.watch.note)
        tuning.run.metric(0, budget_seconds=tuning.settings.budget, seconds=tuning.clock.passed)
        if stopped:
            main = verdict.main
            tuning.watch.note(f"{verdict.words}: {main.name} {main.base:.3f} untuned, {main.tuned:.3f} tuned")

    def _question(self) -> Question:
        tuning = self.tuning
        question = Question(
            rows=tuning.dataset.held_out,
            labels=tuning.dataset.labels,
            template=tuning.template,
            adapter=str(tuning.run.folder / ("model" if tuning.settings.full else "adapter")),
            data=tuning.dataset.examples.source,
            run=tuning.run.id,
            seed=tuning.settings.seed,
            norms=tuning.norms,
        )
        if tuning.replayed is not None:
            return question
        question = replace(question, rows=judged_rows(tuning.loaded, question, tuning.clock, tuning.choose))
        question, self.a_token = writing_within(tuning.loaded, question, tuning.clock, tuning.choose)
        return question

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
