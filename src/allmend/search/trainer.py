"""Training segments of trials on one frozen model: adapters are siblings, whose layers are shared by rank.

A trial is a folder with a checkpoint (adapter, optimiser, counters). Taking it up puts its numbers into the LoRA
layers of its rank; the frozen model, the rows' tokens and the selection rows' packs are there once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from allmend.adapters import LoraConfig, LoraSet, attach, detach
from allmend.compute import Finished, Segment, Stepped
from allmend.data import Tokens
from allmend.digests import file_digest
from allmend.models.loading import Loaded
from allmend.nouns.search import Point
from allmend.search.upper import Below, above
from allmend.tuning import checkpoint
from allmend.tuning.loop import BEST, LAST, Plan, Step, train
from allmend.tuning.memory import peak_memory
from allmend.tuning.packs import Pack
from allmend.tuning.passes import Passes
from allmend.tuning.tricks import Tricks


@dataclass(frozen=True)
class Shared:
    """What all trials of a search share."""

    config: LoraConfig
    """Everything of the LoRA but its rank."""
    seed: int
    pack_tokens: int
    tricks: Tricks = field(default_factory=Tricks)
    threads: int | None = None
    upper_layers: int = 0
    """Only so many of the uppermost layers get a LoRA, and what enters them is kept; 0 is all of them."""
    cache: Path | None = None
    """File for what is kept; memory where there is none."""
    digests: bool = False
    """Whether states are digested: for workers whose files travel."""

    def of(self, point: Point) -> LoraConfig:
        """The LoRA of a point."""
        return self.config.model_copy(update={"rank": point.rank})


def plan_of(segment: Segment, shared: Shared) -> Plan:
    """The loop's plan for a segment. With `until` at `steps` it is the plan of the whole trial."""
    return Plan(
        steps=segment.steps,
        rate=segment.point.learning_rate,
        batch_rows=segment.point.batch,
        seed=shared.seed,
        pack_tokens=shared.pack_tokens,
        climb=segment.climb,
        decay_from=segment.decay_from,
        evaluate_at=segment.evaluate_at,
        pause_at=segment.until if segment.until < segment.steps else None,
        threads=shared.threads,
        tricks=shared.tricks,
    )


class Siblings:
    """A `Trainer` on a model in this process; `close` leaves the model as it was."""

    def __init__(self, loaded: Loaded, rows: Sequence[Tokens], select: Sequence[Tokens], shared: Shared) -> None:
        self.loaded, self.rows, self.select, self.shared = loaded, rows, select, shared
        self._rank = 0
        self._lora: LoraSet | None = None
        self._passes: Passes | None = None
        self._fresh: dict[str, torch.Tensor] = {}
        # Trials of the same batch size see the same batches: packed once, for all of them.
        self._packs: dict[tuple[int, ...], list[Pack]] = {}
        self.below: Below | None = None

    def take(self, point: Point) -> tuple[LoraSet, Passes]:
        """LoRA layers of the point's rank, with fresh numbers in them."""
        if self._lora is None or self._passes is None or self._rank != point.rank:
            self.close()
            self._lora = attach(self.loaded.model, self.shared.of(point), seed=self.shared.seed)
            self._passes = Passes.of(self.loaded, self._lora, self.shared.tricks, self.shared.pack_tokens)
            if self.shared.upper_layers:
                if self.below is None:
                    self.below = Below.of(self._passes, [*self.rows, *self.select], self.shared.cache)
                self._passes = above(self._passes, self.below)
            self._passes.made = self._packs
            self._rank, self._fresh = point.rank, self._lora.state()
        self._lora.load_state(self._fresh)
        self._passes.stepped()
        return self._lora, self._passes

    def run(self, segment: Segment, report: Callable[[Stepped], None], stop: Callable[[], bool]) -> Finished:
        """Train a segment from the checkpoint in its folder, or from the beginning where there is none.

        A stop leaves a checkpoint and answers with what was reached.

        Raises:
            TrainingDiverged: what the loop raises; the best so far stays in the folder.
        """
        begun = time.perf_counter()
        segment.folder.mkdir(parents=True, exist_ok=True)
        lora, passes = self.take(segment.point)
        before = self._progress(segment.folder)
        plan = plan_of(segment, self.shared)
        if segment.seconds is not None:
            setup = time.perf_counter() - begun
            plan = replace(plan, deadline=(before.seconds if before else 0.0) + max(0.0, segment.seconds - setup))

        def tell(step: Step) -> None:
            report(
                Stepped(
                    trial=segment.trial, step=step.step, steps=step.steps, loss=step.loss, rate=step.rate,
                    tokens=step.tokens, seconds=step.seconds, select_loss=step.select_loss,
                    measured=step.select_loss is not None,
                )
            )  # fmt: skip

        try:
            train(self.loaded, lora, self.rows, self.select, plan, segment.folder, tell, stop, passes)
        except KeyboardInterrupt:
            if not stop():
                raise
        return self._finished(segment, begun)

    def _finished(self, segment: Segment, begun: float) -> Finished:
        last = segment.folder / LAST
        progress = self._progress(segment.folder) or checkpoint.Progress()
        return Finished(
            trial=segment.trial,
            step=progress.step,
            steps=progress.steps,
            rows=rows_after(progress.step, segment.point.batch, len(self.rows)),
            tokens=progress.tokens,
            seconds=progress.seconds,
            took=time.perf_counter() - begun,
            state=last if last.is_file() else None,
            digest=file_digest(last) if self.shared.digests and last.is_file() else None,
            best_step=progress.best_step,
            best_loss=progress.best_loss,
            peak_bytes=peak_memory(self.loaded.device),
        )

    @staticmethod
    def _progress(folder: Path) -> checkpoint.Progress | None:
        return checkpoint.load(folder / LAST)[2] if (folder / LAST).is_file() else None

    def close(self) -> None:
        """Take the layers out of the model."""
        if self._passes is not None:
            self._passes.close()
        if self._lora is not None:
            detach(self.loaded.model, self._lora)
        self._passes = self._lora = None


def rows_of(point: Point, rows: int) -> int:
    """Rows that a trial at `point` sees at most, of `rows` training rows."""
    return max(1, round(point.epochs * rows))


def rows_after(step: int, batch: int, rows: int) -> int:
    """Training rows that `step` steps have seen; an epoch's last batch may be smaller."""
    each = -(-rows // batch)
    epochs, inside = divmod(step, each)
    return epochs * rows + min(rows, inside * batch)


def steps_for(seen: int, batch: int, rows: int) -> int:
    """Fewest steps after which at least `seen` rows were seen."""
    each = -(-rows // batch)
    epochs, rest = divmod(seen, rows)
    return epochs * each + -(-rest // batch)


__all__ = ["BEST", "LAST", "Shared", "Siblings", "plan_of", "rows_after", "steps_for"]
