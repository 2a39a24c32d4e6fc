"""What a search keeps on disk: its record, each trial's checkpoints, the adapters that were left, the best one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from allmend.adapters import LoraConfig, write
from allmend.adapters.stored import stored
from allmend.compute import Segment
from allmend.digests import path_digest
from allmend.errors import InputError
from allmend.nouns.model import Model
from allmend.nouns.search import Point, Search, Trial
from allmend.tuning import checkpoint
from allmend.tuning.loop import BEST, LAST

RECORD, TRIALS, SEGMENT = "search.json", "trials", "segment.json"
_POINTS = 64


class Keeper:
    """Owns a run's folder as far as the search goes.

    Args:
        config_of: the LoRA of a point.
        template: text and name of the chat template that lies beside every adapter.
        kept: called with the folder and digest of a new best adapter, just before it appears.
    """

    def __init__(
        self,
        folder: Path,
        search: Search,
        base: Model,
        config_of: Callable[[Point], LoraConfig],
        template: tuple[str, str],
        kept: Callable[[Path, str], None] = lambda folder, digest: None,
    ) -> None:
        self.folder, self.search, self._base = folder, search, base
        self._config_of, self._template, self._kept = config_of, template, kept

    def folder_of(self, trial: int) -> Path:
        """Where a trial's checkpoints are."""
        return self.folder / TRIALS / f"{trial:02d}"

    def save(self, **changes: Any) -> None:
        """Write the record by rename."""
        self.search = self.search.model_copy(update=changes)
        _write(self.folder / RECORD, self.search.to_json(indent=None))

    def segment(self, trial: int) -> Segment | None:
        """The last segment that was handed out for a trial."""
        file = self.folder_of(trial) / SEGMENT
        return Segment.model_validate_json(file.read_text("utf-8")) if file.is_file() else None

    def remember(self, segment: Segment) -> None:
        """Keep a segment: a trial that goes on must not warm up differently, and a replay needs the whole plan."""
        folder = self.folder_of(segment.trial)
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / SEGMENT, segment.model_dump_json())

    def keep_best(self, trial: Trial) -> None:
        """Write the trial's best adapter as the run's; at every moment an adapter is there (but for two renames)."""
        target, hidden, old = self.folder / "adapter", self.folder / ".adapter.new", self.folder / ".adapter.old"
        for leftover in (hidden, old):
            shutil.rmtree(leftover, ignore_errors=True)
        if not self._write_adapter(hidden, self.folder_of(trial.number) / BEST, trial.point):
            return
        self._kept(target, path_digest(hidden))
        if target.exists():
            target.rename(old)
        hidden.rename(target)
        shutil.rmtree(old, ignore_errors=True)

    def leave(self, trial: int, point: Point) -> str | None:
        """A trial is over: its best (or last) adapter stays, its optimiser's state goes, unless it is the best."""
        folder = self.folder_of(trial)
        target = folder / "adapter"
        for file in (BEST, LAST):
            if self._write_adapter(target, folder / file, point):
                break
        else:
            return None
        if trial != self.search.winner:
            self.drop(trial)
        return str(target)

    def write_last(self, target: Path, trial: int, point: Point) -> bool:
        """Write the trial's last adapter."""
        return self._write_adapter(target, self.folder_of(trial) / LAST, point)

    def drop(self, trial: int) -> None:
        """Drop a trial's checkpoints."""
        for file in (BEST, LAST):
            (self.folder_of(trial) / file).unlink(missing_ok=True)

    def _write_adapter(self, target: Path, file: Path, point: Point) -> bool:
        if not file.is_file():
            return False
        tensors, _, _ = checkpoint.load(file)
        write(target, stored(self._config_of(point), tensors), self._base, *self._template)
        return True


def read_record(folder: Path) -> Search:
    """The record of a run's search.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    try:
        return Search.from_json((folder / RECORD).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"the record of the search cannot be read: {type(error).__name__}", where=str(folder / RECORD)
        ) from None


def add_loss(losses: tuple[float, ...], step: int, loss: float | None) -> tuple[float, ...]:
    """A curve with one more step in it; halved in resolution whenever it is full, so that it stays short."""
    if loss is None:
        return losses
    # The curve of n steps holds a point every 2^k steps, the smallest k for which it stays within _POINTS.
    every = 1
    while step > _POINTS * every:
        every *= 2
    if step > _POINTS and step == _POINTS * every // 2 + 1:
        losses = tuple(losses[1::2])
    return (*losses, loss) if step % every == 0 else losses


def _write(path: Path, text: str) -> None:
    hidden = path.with_name(f".{path.name}.new")
    hidden.write_text(text, "utf-8")
    hidden.replace(path)
