"""The work of `allmend tune`, in order: model, data, check, untuned answers, probe, training, verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from allmend import data, runs
from allmend.adapters import LoraConfig, LoraSet, attach, attach_weights, detach, read
from allmend.errors import DoesNotFit, InputError
from allmend.models import catalogue, parse, resolve
from allmend.models.gguf import converted
from allmend.models.loading import Loaded, load
from allmend.models.rated_rows import examples_file
from allmend.nouns.choice import Choice
from allmend.search.space import RANK
from allmend.search.upper import upper_targets
from allmend.tuning import together
from allmend.tuning.divided import DividedModel, divide
from allmend.tuning.loop import BEST
from allmend.tuning.tricks import Tricks
from allmend.tuning.whole import WholeModel
from allmend.verbs.clock import Clock
from allmend.verbs.full_disk import told_when_full
from allmend.verbs.recorded_plan import Recorded
from allmend.verbs.recorded_rows import check_division, check_held_out, rows_digest
from allmend.verbs.searching_work import Searching
from allmend.verbs.tuning_checks import check_data, check_settings, read_norms
from allmend.verbs.tuning_rows import check_sides, read_dataset
from allmend.verbs.tuning_shard import Shard
from allmend.verbs.tuning_training import Training
from allmend.verbs.tuning_verdict import Judging

if TYPE_CHECKING:
    from allmend.data import Dataset, Template, Tokens
    from allmend.nouns.run import Run
    from allmend.runs import Recorder
    from allmend.verbs.tune import TuneSettings
    from allmend.verbs.watching import Watch
    from allmend.verdicts.norms import NormsFile

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
    together.join()
    with clock.paused():
        source = str(examples_file(source, watch.amount)) if _is_catalogue_name(source) else source
    watch.stage(f"Reading {source}")
    dataset = read_dataset(source, settings)
    if replayed is not None and dataset.examples.sha256 != replayed.data:
        raise InputError("the data file has changed since the run", where=source)
    if replayed is not None:
        check_held_out(dataset.examples, replayed.held_out)
        check_division(dataset, replayed.division)
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
    check_sides(dataset)
    with runs.record("tune", settings=settings, subject=source) as run:
        tuning = Tuning(run, settings, loaded, dataset, template, context, watch, clock, replayed)
        tuning.norms = asked_norms
        with told_when_full(
            run.folder, "Free some space and run the same command again: it goes on from where it was."
        ):
            tuning.describe(source)
            tuning.go()
    return runs.show(run.id)


def _is_catalogue_name(source: str) -> bool:
    return source in catalogue().data and not Path(source).exists()


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
        self.norms: NormsFile | None = None
        self._train_until: float | None = None
        self.judging: Judging | None = None
        self.shard = Shard.of(settings, loaded)
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
        if together.processes() > 1:
            self.choose("processes", together.processes(), "started by torchrun; each takes its share of every batch")
            self.choose("shard", self.shard.name, self.shard.reason)
        splits = examples.splits
        self.choose(
            "splits", splits, f"{len(self.dataset)} rows, duplicates kept on one side, seed {self.settings.seed}"
        )
        self.run.choice("held_out_rows", rows_digest(self.dataset.held_out), "SHA-256, to know them again")
        for note in examples.notes:
            self.watch.note(note)

    def choose(self, name: str, value: object, reason: str) -> None:
        """An automatic choice: shown once, recorded."""
        self.run.choice(name, value, reason)
        self.watch.choice(Choice(name=name, value=value, reason=reason))

    def go(self) -> None:
        """Untuned answers, training or a search, and the verdict, also of what a stopped training had reached."""
        self.judging = judging = Judging(self)
        rows = self.encode(self.dataset.train)
        select = self.encode(self.dataset.select)
        if self.replayed is None:
            judging.more(rows)
        if self.settings.full:
            self._go_whole(judging, rows, select)
        elif self.shard.divides_weights:
            self._go_divided(judging, rows, select)
        else:
            searching = None if self.replayed is not None else Searching.of(self, rows, select)
            if searching is not None and searching.wanted:
                self._search(searching, judging)
            else:
                self._one(judging, Training(self, rows, select, searching.probed if searching else None))

    def seconds_to_train(self) -> float:
        """What is left of the budget once the verdict is paid, but a fair share of it at least."""
        if self._train_until is None:
            verdict = self.judging.seconds if self.judging else 0.0
            left, least = self.clock.left - verdict, _TRAINING_SHARE * self.clock.budget
            if left < least and self.replayed is None:
                self.choose(
                    "training_seconds",
                    round(least, 1),
                    f"measuring left {max(0.0, left):.0f} s of the budget; training gets {_TRAINING_SHARE:.0%} of it "
                    f"all the same, so the budget is overdrawn by {least - left:.0f} s",
                )  # fmt: skip
            self._train_until = self.clock.passed + max(left, least)
        return self._train_until - self.clock.passed

    def _one(self, judging: Judging, training: Training) -> None:
        """One setting, trained once."""
        lora = attach(self.loaded.model, self.config(), seed=self.settings.seed)
        try:
            try:
                training.of(lora)
            except KeyboardInterrupt:
                if (self.run.folder / BEST).is_file():
                    judging.of(lora, stopped=True)
                raise
            judging.of(lora)
        finally:
            detach(self.loaded.model, lora)

    def _go_divided(self, judging: Judging, rows: list[Tokens], select: list[Tokens]) -> None:
        """One setting, trained on a frozen model whose weights are divided; it is judged in one piece again."""
        self.choose("trials", 1, "weights are divided among the processes, which a search does not do")
        divided = divide(self.loaded.model, self.loaded.dtype, learned=False)
        lora = attach(self.loaded.model, self.config(), seed=self.settings.seed)
        try:
            Training(self, rows, select, divided=divided).of(lora)
        finally:
            detach(self.loaded.model, lora)
        self.loaded.model = divided.gathered(self.loaded.dtype)
        self._judge_saved(judging)

    def _go_whole(self, judging: Judging, rows: list[Tokens], select: list[Tokens]) -> None:
        """Learn all weights and judge them; the untuned answers are there already."""
        torch.manual_seed(self.settings.seed)
        if self.shard.divides_weights:
            whole: WholeModel = DividedModel(self.loaded.model, self.loaded.dtype)
        else:
            whole = WholeModel(self.loaded.model)
        try:
            Training(self, rows, select).of(whole)
        finally:
            whole.release()
        if isinstance(whole, DividedModel):
            self.loaded.model = whole.gathered()
        judging.of(LoraSet(LoraConfig(), {}))

    def _search(self, searching: Searching, judging: Judging) -> None:
        stopped = searching.go()
        if not (self.run.folder / "adapter").is_dir():
            if stopped:
                raise KeyboardInterrupt
            raise DoesNotFit(
                "the time was over before any trial was measured",
                where="--budget",
                hint="Allow more time, or take one setting with --trials 1.",
            )
        self._judge_saved(judging, stopped)
        if stopped:
            raise KeyboardInterrupt

    def _judge_saved(self, judging: Judging, stopped: bool = False) -> None:
        """Judge the adapter that lies in the run's folder."""
        lora = attach_weights(self.loaded.model, read(self.run.folder / "adapter"))
        try:
            judging.of(lora, stopped)
        finally:
            detach(self.loaded.model, lora)

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

    def encode(self, rows: Sequence[data.Row], told: bool = True) -> list[Tokens]:
        """Rows as tokens; says how many were cut."""
        encoded = list(data.encode_rows(rows, self.loaded.tokenizer, self.template, context=self.context))
        cut = sum(1 for tokens in encoded if tokens.cut)
        if cut and told:
            self.watch.note(f"{cut} rows are longer than {self.context} tokens and lost the start of their prompt.")
        return encoded
