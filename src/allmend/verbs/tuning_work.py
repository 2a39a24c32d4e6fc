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
from allmend.adapters import LoraConfig, LoraSet, attach, detach, write
from allmend.errors import InputError
from allmend.models import catalogue, parse, resolve
from allmend.models.loading import Loaded, load
from allmend.models.rated_rows import examples_file
from allmend.models.saving import write_model
from allmend.nouns.choice import Choice
from allmend.tuning import checkpoint, memory, together
from allmend.tuning import probe as probing
from allmend.tuning.loop import BEST, LAST, Plan, Step, train
from allmend.tuning.passes import Learned, Passes
from allmend.tuning.tricks import Tricks
from allmend.tuning.whole import WholeModel
from allmend.verbs.recorded_plan import PLAN, Recorded, read_plan
from allmend.verbs.stopping import stop_between_steps
from allmend.verbs.tuning_checks import check_data, check_settings
from allmend.verbs.tuning_plan import PACK_TOKENS, make_plan
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


def work(source: str, settings: TuneSettings, watch: Watch, replayed: Recorded | None = None) -> Run:
    """Do it; returns the finished Run.

    Args:
        replayed: what a finished run recorded; nothing is measured anew then.
    """
    # What a person wrote is looked at before anything is fetched.
    Tricks.without(*settings.without)
    check_settings(settings)
    named = data.template(settings.template) if settings.template else None
    reference = parse(settings.model)
    processes = together.join()
    source = str(examples_file(source, watch.amount)) if _is_catalogue_name(source) else source
    watch.stage(f"Reading {source}")
    dataset = read_dataset(source, settings)
    if replayed is not None and dataset.examples.sha256 != replayed.data:
        raise InputError("the data file has changed since the run", where=source)
    watch.stage(f"Looking up {settings.model}")
    model = resolve(reference, watch.amount)
    watch.model(model)
    watch.stage(f"Loading {model.name}")
    loaded = load(model, settings.dtype, progress=watch.amount, bits=settings.base_bits)
    template = named or data.of_tokenizer(loaded.tokenizer)
    context = min(settings.context or loaded.context, loaded.context)
    check_data(source, dataset, settings, loaded, template, context, watch)
    with runs.record("tune", settings=settings, subject=source) as run:
        tuning = _Tuning(run, settings, loaded, dataset, template, context, watch, replayed)
        tuning.describe(source)
        if processes > 1:
            tuning.choose("processes", processes, "started by torchrun; each takes its share of every batch")
        verdict = tuning.go()
        write_verdict(run, verdict)
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


class _Tuning:
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
        replayed: Recorded | None = None,
    ) -> None:
        self.replayed = replayed
        self.run, self.settings, self.loaded, self.dataset = run, settings, loaded, dataset
        self.template, self.context, self.watch = template, context, watch

    def describe(self, source: str) -> None:
        """Record what goes in."""
        examples, model = self.dataset.examples, self.loaded.about
        self.run.input(source, name="data", sha256=examples.sha256)
        if examples.held_out_source:
            self.run.input(examples.held_out_source, name="held_out", sha256=examples.held_out_sha256)
        self.run.input(model.path, name="model", sha256=model.digest)
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

    def go(self) -> Verdict:
        """Untuned answers, training, verdict."""
        question = self.question()
        self.watch.stage(f"Measuring the untuned model on {len(question.rows)} held-out rows")
        before = answers_of(self.loaded, question)
        self._say_untuned(question, before)
        rows = self._encode(self.dataset.train)
        select = self._encode(self.dataset.select)
        if self.settings.full:
            return self._go_whole(question, before, rows, select)
        config = LoraConfig(
            rank=self.settings.rank,
            alpha=self.settings.alpha,
            dropout=self.settings.dropout,
            targets=self.settings.targets,
            rslora=self.settings.rslora,
            dora=self.settings.dora,
        )
        lora = attach(self.loaded.model, config, seed=self.settings.seed)
        try:
            self._train(lora, rows, select)
            self.watch.stage(f"Judging it on {len(question.rows)} held-out rows")
            return judge(self.loaded, lora, question, base_answers=before)
        finally:
            detach(self.loaded.model, lora)

    def _go_whole(self, question: Question, before: Answers, rows: list[Tokens], select: list[Tokens]) -> Verdict:
        """Learn all weights and judge them; the untuned answers are there already."""
        memory.check_whole(self.loaded, self.settings.memory)
        torch.manual_seed(self.settings.seed)
        whole = WholeModel(self.loaded.model)
        try:
            self._train(whole, rows, select)
        finally:
            whole.release()
        self.watch.stage(f"Judging it on {len(question.rows)} held-out rows")
        return judge(self.loaded, LoraSet(LoraConfig(), {}), question, base_answers=before)

    def question(self) -> Question:
        """What the verdict will be about."""
        return Question(
            rows=self.dataset.held_out,
            labels=self.dataset.labels,
            template=self.template,
            adapter=str(self.run.folder / ("model" if self.settings.full else "adapter")),
            data=self.dataset.examples.source,
            run=self.run.id,
            seed=self.settings.seed,
        )

    def _say_untuned(self, question: Question, answers: Answers) -> None:
        if answers.labels is not None:
            right = sum(a == row.completion for a, row in zip(answers.labels, question.rows, strict=True))
            self.watch.note(f"Untuned: {right / len(question.rows):.3f} of the labels are right.")
            self.run.metric(0, untuned_accuracy=right / len(question.rows))
        mean = sum(answers.losses) / len(answers.losses)
        self.run.metric(0, untuned_loss=mean)

    def _encode(self, rows: Sequence[data.Row]) -> list[Tokens]:
        encoded = list(data.encode_rows(rows, self.loaded.tokenizer, self.template, context=self.context))
        cut = sum(1 for tokens in encoded if tokens.cut)
        if cut:
            self.watch.note(f"{cut} rows are longer than {self.context} tokens and lost the start of their prompt.")
        return encoded

    def _train(self, learned: Learned, rows: list[Tokens], select: list[Tokens]) -> None:
        folder = self.run.folder
        key = self._key()
        (folder / "key").write_text(key)
        probing.check_disk(folder, learned)
        before = torch.get_num_threads()
        passes = Passes.of(self.loaded, learned, Tricks.without(*self.settings.without), PACK_TOKENS)
        for choice in passes.choices:
            self.choose(choice.name, choice.value, choice.reason)
        told = len(passes.choices)
        try:
            plan = self._settled(key, passes, rows, select)
            for choice in passes.choices[told:]:
                self.choose(choice.name, choice.value, choice.reason)
            (folder / PLAN).write_text(json.dumps(asdict(plan)))
            self._steps(passes, plan, rows, select)
        finally:
            passes.close()
            torch.set_num_threads(before)
            self._keep(learned)

    def _settled(self, key: str, passes: Passes, rows: list[Tokens], select: list[Tokens]) -> Plan:
        """The plan: that of the run that is replayed or continued, or a new one."""
        earlier = None if self.settings.fresh or self.replayed else self._interrupted(key)
        if self.replayed is not None:
            plan = self.replayed.plan
            self.choose("steps", plan.steps, "as in the run that is replayed")
        elif earlier is not None:
            plan = self._continue(earlier)
        else:
            return make_plan(passes, rows, select, self.settings, self.choose, self.watch)
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
        for at, steps in progress.replanned:
            self.choose("steps", steps, f"after step {at}: the machine is slower than it was measured")
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

    def _key(self) -> str:
        """What makes two runs the same work."""
        values = self.settings.model_dump(mode="json", exclude={"fresh"})
        parts = [values, self.dataset.examples.sha256, self.dataset.examples.held_out_sha256, self.loaded.about.digest]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _interrupted(self, key: str) -> Path | None:
        """The folder of the latest run of the same work, if it was stopped with a checkpoint to go on from."""
        for earlier in runs.list(verb="tune", limit=20):
            folder = Path(earlier.folder)
            if earlier.id == self.run.id or not (folder / "key").is_file() or (folder / "key").read_text() != key:
                continue
            if earlier.state == "interrupted" and (folder / LAST).is_file() and (folder / PLAN).is_file():
                self.choose(
                    "continues", earlier.id, "it was interrupted, and its settings, data and model are the same"
                )
                return folder
            return None
        return None

    def _continue(self, folder: Path) -> Plan:
        for name in (LAST, BEST):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, self.run.folder / name)
        return replace(read_plan(folder), deadline=self.settings.budget)
