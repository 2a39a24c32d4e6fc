"""Trials whose loss is a formula and whose seconds are counted, not waited for: for tests of the schedule alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

import training
from allmend.adapters import LoraConfig
from allmend.compute import Finished, Segment, Stepped
from allmend.errors import TrainingDiverged
from allmend.nouns.search import Point, Search
from allmend.search.state import Keeper
from allmend.search.trainer import rows_after
from allmend.tuning import checkpoint
from allmend.tuning.loop import BEST, LAST


def loss_of(point: Point, rows: int) -> float:
    """Falls with rows; the best rate is 7e-4."""
    import math

    off = abs(math.log(point.learning_rate / 7e-4))
    return 0.1 + 0.05 * off + (0.3 + off) / (1 + rows * point.learning_rate)


@dataclass
class Formula:
    """A `Trainer` that takes `row` virtual seconds a row."""

    rows: int
    row: float = 0.01
    evaluation: float = 0.2
    slower: float = 1.0
    """The machine is so many times slower than it was measured."""
    loss: Callable[[Point, int], float] = loss_of
    seconds: float = 0.0
    segments: list[Segment] = field(default_factory=list)
    stop_after: int | None = None

    def run(self, segment: Segment, report: Callable[[Stepped], None], stop: Callable[[], bool]) -> Finished:
        self.segments.append(segment)
        segment.folder.mkdir(parents=True, exist_ok=True)
        last = segment.folder / LAST
        progress = checkpoint.load(last)[2] if last.is_file() else checkpoint.Progress(steps=segment.steps)
        if progress.step <= segment.decay_from:
            progress.steps = segment.steps
        tensors = {
            "layer.lora_A": torch.zeros(segment.point.rank, 4),
            "layer.lora_B": torch.ones(4, segment.point.rank),
        }
        begun = self.seconds
        while progress.step < min(progress.steps, segment.until):
            before = rows_after(progress.step, segment.point.batch, self.rows)
            progress.step += 1
            seen = rows_after(progress.step, segment.point.batch, self.rows)
            took = self.row * self.slower * (seen - before)
            if segment.seconds is not None and self.seconds + took - begun > segment.seconds:
                progress.steps = progress.step
            self.seconds += took
            progress.seconds += took
            loss = self.loss(segment.point, seen)
            if loss != loss:
                raise TrainingDiverged("training diverged", hint="lower")
            measured = progress.step in segment.evaluate_at or progress.step == progress.steps
            if measured:
                self.seconds += self.evaluation * self.slower
                progress.seconds += self.evaluation * self.slower
                if progress.best_loss is None or loss < progress.best_loss:
                    progress.best_loss, progress.best_step = loss, progress.step
                    checkpoint.save(segment.folder / BEST, tensors, {}, progress)
            report(
                Stepped(
                    trial=segment.trial, step=progress.step, steps=progress.steps, loss=loss, rate=1.0,
                    tokens=seen, seconds=progress.seconds, select_loss=loss if measured else None, measured=measured,
                )
            )  # fmt: skip
            if stop():
                break
        checkpoint.save(last, tensors, {}, progress)
        return Finished(
            trial=segment.trial, step=progress.step, steps=progress.steps,
            rows=rows_after(progress.step, segment.point.batch, self.rows), tokens=0, seconds=progress.seconds,
            took=self.seconds - begun, state=last, digest=None, best_loss=progress.best_loss,
        )  # fmt: skip

    def close(self) -> None:
        """Nothing is held."""


def keeper(folder: Path, rows: int) -> Keeper:
    """A search's place on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    search = Search(run="test", train_rows=rows, select_rows=10)
    base = training.loaded().about
    return Keeper(folder, search, base, lambda point: LoraConfig(rank=point.rank), ("{{ messages }}", "test"))
