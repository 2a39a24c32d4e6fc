"""The work of `allmend tune`, in order: model, data, check, untuned answers, probe, training, verdict."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from allmend import data, runs
from allmend.adapters import LoraConfig, LoraSet, attach, attach_weights, detach, read, write
from allmend.errors import DoesNotFit, InputError
from allmend.models import catalogue, parse, resolve
from allmend.models.gguf import converted
from allmend.models.loading import Loaded, load
from allmend.models.rated_rows import examples_file
from allmend.models.saving import write_model
from allmend.nouns.choice import Choice
from allmend.search.space import RANK
from allmend.search.upper import FILE as BELOW
from allmend.search.upper import Below, above, cache_file, upper_targets
from allmend.tuning import checkpoint, memory, together
from allmend.tuning import probe as probing
from allmend.tuning.loop import BEST, LAST, Plan, Step, train
from allmend.tuning.passes import Learned, Passes
from allmend.tuning.tricks import Tricks
from allmend.tuning.whole import WholeModel
from allmend.verbs.clock import Clock
from allmend.verbs.recorded_plan import PLAN, Recorded, read_plan
from allmend.verbs.searching_work import Searching
from allmend.verbs.stopping import stop_between_steps
from allmend.verbs.tuning_checks import check_data, check_settings, read_norms
from allmend.verbs.tuning_plan import PACK_TOKENS, Probed, make_plan
from allmend.verbs.tuning_question import More, judged_rows
from allmend.verdicts import norms
from allmend.verdicts.judge import Answers, Question, answers_of, judge

if TYPE_CHECKING:
    from allmend.data import Dataset, Template, Tokens
    from allmend.nouns.run import Run
    from allmend.nouns.verdict import Verdict
    from allmend.runs import Recorder
    from allmend.verbs.tune import TuneSettings
    from allmend.verbs.watching import Watch

SELECT_ROWS = 200
HELD_OUT_ROWS = 1000
"""At most this many rows are held out of one file: more would narrow the interval little and cost much time."""

_TRAINING_SHARE = 0.3


def work(source: str, settings: TuneSettings, watch: Watch, replayed: Recorded | None = None) -> Run:
    """Do it; returns the finished Run.

    Args:
        replayed: what a finished run recorded; nothing is measured anew then.
    """
    clock = Clock(settings.budget)
    # What a person wrote is looked at before anything is fetched.
    Tricks.without(*settings.without)
    check_settings(settings)
    named = data.template(settings.template) if settings.template else None
    asked_norms = read_norms(settings.norms)
    reference = parse(settings.model)
    processes = together.join()
    with clock.paused():
        source = str(examples_file(source, watch.amount)) if _is_catalogue_name(source) else source
    watch.stage(f"Reading {source}")
    dataset = read_dataset(source, settings)
    if replayed is not None and dataset.examples.sha256 != replayed.data:
        raise InputError("the data file has changed since the run", where=source)
    watch.stage(f"Looking up {settings.model}")
    # Fetching and converting happen once a machine.
    with clock.paused():
        model = resolve(reference, watch.amount)
        if model.format == "gguf":
            converted(model, watch.amount)
    watch.model(model)
    watch.stage(f"Loading {model.name}")
    loaded = load(model, settings.dtype, progress=watch.amount, bits=settings.base_bits)
    template = named or data.of_tokenizer(loaded.tokenizer)
    context = min(settings.context or loaded.context, loaded.context)
    check_data(source, dataset, settings, loaded, template, context, watch)
    with runs.record("tune", settings=settings, subject=source) as run:
        tuning = Tuning(run, settings, loaded, dataset, template, context, watch, clock, replayed)
        tuning.norms = asked_norms
        tuning.describe(source)
        if processes > 1:
            tuning.choose("processes", processes, "started by torchrun; each takes its share of every batch")
        tuning.go()
    return runs.show(run.id)


def write_verdict(run: Recorder, verdict: Verdict) -> None:
    """Keep a verdict beside its run."""
    path = run.folder / "verdict.json"
    hidden = path.with_name(".verdict.json.new")
    hidden.write_text(verdict.to_json(), "utf-8")
    hidden.replace(path)
    run.output("verdict", path)


def _is_catalogue_name(source: str) -> bool:
    return source in catalogue().data and not Path(source).exists()


def read_dataset(source: str, settings: TuneSettings) -> Dataset:
    """Rows and their splits, as these settings divide them; the same rows and seed give the same splits."""
    dataset = data.load(
        source,
        prompt_column=settings.prompt_column,
        completion_column=settings.completion_column,
        skip_bad=settings.skip_bad,
        seed=settings.seed,
        held_out_source=settings.held_out,
    )
    if settings.held_out is None and len(dataset.held_out) > HELD_OUT_ROWS:
        dataset = data.load(
            source,
            prompt_column=settings.prompt_column,
            completion_column=settings.completion_column,
            skip_bad=settings.skip_bad,
            seed=settings.seed,
            select=min(SELECT_ROWS, len(dataset.select)),
            held_out=HELD_OUT_ROWS,
        )
    return dataset


class Tuning:
    """One run of tune, from loaded model and rows to a verdict."""

    def __init__(
        self,
        run: Recorder,
        settings: TuneSettings,
        loaded: Loaded,
        dataset: Dataset,
        template: Template,
        context: int,
        watch: Watch,
        clock: Clock,
        replayed: Recorded | None = None,
    ) -> None:
        self.replayed, self.clock = replayed, clock
        self.norms: norms.NormsFile | None = None
        self._few_shot: Answers | None = None
        self._verdict_seconds = 0.0
        self._train_until: float | None = None
        self.run, self.settings, self.loaded, self.dataset = run, settings, loaded, dataset
        self.template, self.context, self.watch = template, context, watch

    def describe(self, source: str) -> None:
        """Record what goes in."""
        examples, model = self.dataset.examples, self.loaded.about
        self.run.input(source, name="data", sha256=examples.sha256)
        if examples.held_out_source:
            self.run.input(examples.held_out_source, name="held_out", sha256=examples.held_out_sha256)
        self.run.input(model.path, name="model", sha256=model.digest)
        if self.norms is not None:
            self.run.input(self.norms.path, name="norms", sha256=self.norms.sha256)
        for choice in self.loaded.choices:
            self.choose(choice.name, choice.value, choice.reason)
        self.choose("template", self.template.name, "the model's own" if not self.template.is_plain else "it has none")
        splits = examples.splits
        self.choose(
            "splits", splits, f"{len(self.dataset)} rows, duplicates kept on one side, seed {self.settings.seed}"
        )
        for note in examples.notes:
            self.watch.note(note)

    def choose(self, name: str, value: object, reason: str) -> None:
        """An automatic choice: shown once, recorded."""
        self.run.choice(name, value, reason)
        self.watch.choice(Choice(name=name, value=value, reason=reason))

    def go(self) -> None:
        """Untuned answers, training or a search, and the verdict, also of what a stopped training had reached."""
        question = self.question()
        self.watch.stage(f"Measuring the untuned model on {len(question.rows)} held-out rows")
        begun = self.clock.passed
        before = answers_of(self.loaded, question)
        took = self.clock.passed - begun
        self._say_untuned(question, before)
        rows = self.encode(self.dataset.train)
        select = self.encode(self.dataset.select)
        if self.replayed is None:
            question, again = self._more(question, before, took, rows)
            took += again
        # The tuned model will be asked the same, and the intervals drawn.
        self._verdict_seconds = took * 1.05 + 1.0
        if self.settings.full:
            self._go_whole(question, before, rows, select)
            return
        searching = None if self.replayed is not None else Searching.of(self, rows, select)
        if searching is not None and searching.wanted:
            self._search(searching, question, before)
        else:
            self._one(question, before, rows, select, searching.probed if searching else None)

    def _more(self, question: Question, before: Answers, took: float, rows: list[Tokens]) -> tuple[Question, float]:
        """What there is time for beyond the rows; the seconds of it that the tuned model will take as well."""
        lengths = [len(tokens) for tokens in self.encode(question.rows, told=False)]
        more = More(self.loaded, self.clock, took, lengths, self.choose, self.watch)
        mean = sum(map(len, rows)) / max(1, len(rows))
        question, self._few_shot = more.with_shots(question, self.dataset.train, self.settings.few_shot, mean)
        if not self.settings.forgetting:
            return question, 0.0
        return more.forgetting(question, before)

    def seconds_to_train(self) -> float:
        """What is left of the budget once the verdict is paid, but a fair share of it at least."""
        if self._train_until is None:
            left, least = self.clock.left - self._verdict_seconds, _TRAINING_SHARE * self.clock.budget
            if left < least and self.replayed is None:
                self.choose(
                    "training_seconds",
                    round(least, 1),
                    f"measuring left {max(0.0, left):.0f} s of the budget; training gets {_TRAINING_SHARE:.0%} of it "
                    f"all the same, so the budget is overdrawn by {least - left:.0f} s",
                )  # fmt: skip
            self._train_until = self.clock.passed + max(left, least)
        return self._train_until - self.clock.passed

    def _one(
        self, question: Question, before: Answers, rows: list[Tokens], select: list[Tokens], probed: Probed | None
    ) -> None:
        """One setting, trained once."""
        self._probed = probed
        lora = attach(self.loaded.model, self.config(), seed=self.settings.seed)
        try:
            try:
                self._train(lora, rows, select)
            except KeyboardInterrupt:
                if (self.run.folder / BEST).is_file():
                    self._judge(lora, question, before, stopped=True)
                raise
            self._judge(lora, question, before)
        finally:
            detach(self.loaded.model, lora)

    def _go_whole(self, question: Question, before: Answers, rows: list[Tokens], select: list[Tokens]) -> None:
        """Learn all weights and judge them; the untuned answers are there already."""
        memory.check_whole(self.loaded, self.settings.memory)
        torch.manual_seed(self.settings.seed)
        self._probed = None
        whole = WholeModel(self.loaded.model)
        try:
            self._train(whole, rows, select)
        finally:
            whole.release()
        self._judge(LoraSet(LoraConfig(), {}), question, before)

    def _search(self, searching: Searching, question: Question, before: Answers) -> None:
        stopped = searching.go()
        adapter = self.run.folder / "adapter"
        if not adapter.is_dir():
            if stopped:
                raise KeyboardInterrupt
            raise DoesNotFit(
                "the time was over before any trial was measured",
                where="--budget",
                hint="Allow more time, or take one setting with --trials 1.",
            )
        lora = attach_weights(self.loaded.model, read(adapter))
        try:
            self._judge(lora, question, before, stopped=stopped)
        finally:
            detach(self.loaded.model, lora)
        if stopped:
            raise KeyboardInterrupt

    def _judge(self, lora: LoraSet, question: Question, before: Answers, stopped: bool = False) -> None:
        rows = f"{len(question.rows)} held-out rows"
        self.watch.stage(
            f"Stopped. Judging the best so far on {rows}; Ctrl-C again leaves that out"
            if stopped
            else f"Judging it on {rows}"
        )
        verdict = judge(self.loaded, lora, question, base_answers=before, few_shot=self._few_shot)
        write_verdict(self.run, verdict)
        if self.norms is not None and not self.settings.full:
            norms.remember(self.norms, self.run.folder / "adapter", self.watch.note)
        self.run.metric(0, budget_seconds=self.settings.budget, seconds=self.clock.passed)
        if stopped:
            main = verdict.main
            self.watch.note(f"{verdict.words}: {main.name} {main.base:.3f} untuned, {main.tuned:.3f} tuned")

    def config(self) -> LoraConfig:
        """The LoRA, of the rank that was asked for or the usual one."""
        targets = self.settings.targets
        if self.settings.upper_layers is not None:
            targets = upper_targets(self.loaded.model, self.settings.upper_layers, targets)
        return LoraConfig(
            rank=self.settings.rank or RANK,
            alpha=self.settings.alpha,
            dropout=self.settings.dropout,
            targets=targets,
            rslora=self.settings.rslora,
            dora=self.settings.dora,
        )

    def question(self) -> Question:
        """What the verdict will be about."""
        question = Question(
            rows=self.dataset.held_out,
            labels=self.dataset.labels,
            template=self.template,
            adapter=str(self.run.folder / ("model" if self.settings.full else "adapter")),
            data=self.dataset.examples.source,
            run=self.run.id,
            seed=self.settings.seed,
            norms=self.norms,
        )
        if self.replayed is not None:
            return question
        return replace(question, rows=judged_rows(self.loaded, question, self.clock, self.choose))

    def _say_untuned(self, question: Question, answers: Answers) -> None:
        if answers.labels is not None:
            right = sum(a == row.completion for a, row in zip(answers.labels, question.rows, strict=True))
            self.watch.note(f"Untuned: {right / len(question.rows):.3f} of the labels are right.")
            self.run.metric(0, untuned_accuracy=right / len(question.rows))
        mean = sum(answers.losses) / len(answers.losses)
        self.run.metric(0, untuned_loss=mean)

    def encode(self, rows: Sequence[data.Row], told: bool = True) -> list[Tokens]:
        """Rows as tokens; says how many were cut."""
        encoded = list(data.encode_rows(rows, self.loaded.tokenizer, self.template, context=self.context))
        cut = sum(1 for tokens in encoded if tokens.cut)
        if cut and told:
            self.watch.note(f"{cut} rows are longer than {self.context} tokens and lost the start of their prompt.")
        return encoded

    def _train(self, learned: Learned, rows: list[Tokens], select: list[Tokens]) -> None:
        folder = self.run.folder
        (folder / "key").write_text(self.key())
        probing.check_disk(folder, learned)
        before = torch.get_num_threads()
        passes = Passes.of(self.loaded, learned, Tricks.without(*self.settings.without), PACK_TOKENS)
        if self.settings.upper_layers is not None:
            every = [*rows, *select]
            passes = above(passes, Below.of(passes, every, cache_file(folder, self.loaded, every)))
        for choice in passes.choices:
            self.choose(choice.name, choice.value, choice.reason)
        told = len(passes.choices)
        try:
            plan = self._settled(passes, rows, select)
            for choice in passes.choices[told:]:
                self.choose(choice.name, choice.value, choice.reason)
            (folder / PLAN).write_text(json.dumps(asdict(plan)))
            self._steps(passes, plan, rows, select)
        finally:
            passes.close()
            (folder / BELOW).unlink(missing_ok=True)
            torch.set_num_threads(before)
            self._keep(learned)

    def _settled(self, passes: Passes, rows: list[Tokens], select: list[Tokens]) -> Plan:
        """The plan: that of the run that is replayed or continued, or a new one."""
        earlier = None if self.settings.fresh or self.replayed else self.interrupted(LAST, PLAN)
        if self.replayed is not None:
            plan = self.replayed.plan
            self.choose("steps", plan.steps, "as in the run that is replayed")
        elif earlier is not None:
            self.choose("continues", earlier.name, "it was interrupted, and its settings, data and model are the same")
            plan = self._continue(earlier)
        else:
            left = self.seconds_to_train
            return make_plan(passes, rows, select, self.settings, left, self._probed, self.choose, self.watch)
        passes.pack_tokens = plan.pack_tokens
        if plan.recompute:
            passes.recompute("as recorded")
        return plan

    def _steps(self, passes: Passes, plan: Plan, rows: list[Tokens], select: list[Tokens]) -> None:
        self.watch.stage(f"Training for {plan.steps} steps")

        def report(step: Step) -> None:
            self.run.metric(step.step, loss=step.loss, learning_rate=step.rate, tokens=step.tokens)
            if step.select_loss is not None:
                self.run.metric(step.step, select_loss=step.select_loss)
            self.watch.step(step)

        memory.forget_peak(self.loaded.device)
        with stop_between_steps() as stop:
            outcome = train(self.loaded, passes.lora, rows, select, plan, self.run.folder, report, stop, passes)
        progress = outcome.progress
        planned = plan.steps
        for at, steps in progress.replanned:
            how = "slower" if steps < planned else "faster"
            self.choose("steps", steps, f"after step {at}: the machine is {how} than it was measured")
            planned = steps
        # What the probe said stands beside what happened, so that the probe itself can be judged.
        peak = memory.peak_memory(self.loaded.device) >> 20
        self.run.metric(progress.step, training_seconds=progress.seconds, peak_mib=float(peak))
        self.watch.note(f"Training took {progress.seconds / 60:.1f} min and at its peak {peak} MiB.")

    def _keep(self, learned: Learned) -> None:
        """Write the best and the last of what was learned, also when training was stopped."""
        kind = "model" if isinstance(learned, WholeModel) else "adapter"
        best = None
        for name, file in ((f"{kind}-last", LAST), (kind, BEST)):
            path = self.run.folder / file
            if not path.is_file():
                continue
            tensors, _, progress = checkpoint.load(path)
            learned.load_state(tensors)
            best = progress.best_step if file == BEST else best
            target = self.run.folder / name
            if isinstance(learned, WholeModel):
                write_model(target, self.loaded, self.template.text, self.template.name)
            else:
                write(target, learned, self.loaded.about, self.template.text, self.template.name, self.loaded.bits)
            self.run.output(name, target)
        if best is not None:
            self.choose("best_step", best, "lowest loss on the selection rows")

    def key(self) -> str:
        """What makes two runs the same work."""
        values = self.settings.model_dump(mode="json", exclude={"fresh", "workers"})
        parts = [values, self.dataset.examples.sha256, self.dataset.examples.held_out_sha256, self.loaded.about.digest]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def interrupted(self, *files: str, failed: bool = False) -> Path | None:
        """The folder of the latest run of the same work, if it was stopped and left these files to go on from.

        Args:
            failed: also one that ended in an error.
        """
        key = self.key()
        for earlier in runs.list(verb="tune", limit=20):
            folder = Path(earlier.folder)
            if earlier.id == self.run.id or not (folder / "key").is_file() or (folder / "key").read_text() != key:
                continue
            states = {"interrupted", "failed"} if failed else {"interrupted"}
            going = earlier.state in states and all((folder / name).is_file() for name in files)
            return folder if going else None
        return None

    def _continue(self, folder: Path) -> Plan:
        # Read before anything is taken over: a damaged checkpoint must leave no adapter behind.
        _, _, progress = checkpoint.load(folder / LAST)
        plan = read_plan(folder)
        for name in (LAST, BEST):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, self.run.folder / name)
        # What earlier sittings trained counts; a budget that was spent on training alone buys nothing more.
        return replace(plan, deadline=min(plan.deadline or self.settings.budget,
                                          progress.seconds + max(0.0, self.seconds_to_train())))  # fmt: skip
