"""The fit probe: a few real steps, measured, before anything is promised.

Two lengths are run (the median batch and the largest), twice each, the first time uncounted; from them come seconds
a step, peak memory, and how many steps the budget buys. The adapter is put back as it was.
"""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from allmend.adapters import LoraSet
from allmend.data import Tokens
from allmend.errors import DoesNotFit
from allmend.models.loading import Loaded
from allmend.tuning.passes import Passes
from allmend.tuning.tricks import Tricks

SLACK = 0.94
"""Share of the budget that is planned for steps; the rest is for what the probe cannot see."""


@dataclass(frozen=True)
class Fit:
    """What the probe measured and what follows."""

    seconds_per_token: float
    seconds_fixed: float
    """Seconds a step besides its tokens."""
    peak_bytes: int
    """Peak memory of the process after the largest batch."""
    tokens_per_second: float

    def seconds(self, tokens: float) -> float:
        """Predicted seconds of a step over so many tokens."""
        return self.seconds_fixed + self.seconds_per_token * tokens


def probe(
    loaded: Loaded,
    lora: LoraSet,
    batches: Sequence[Sequence[Tokens]],
    pack_tokens: int,
    passes: Passes | None = None,
) -> Fit:
    """Measure; `batches` are real ones, of which the median and the largest by tokens are run.

    Args:
        passes: how steps are worked out, where it has been settled before.
    """
    own = passes is None
    passes = passes or Passes.of(loaded, lora, Tricks(), pack_tokens)
    sized = sorted(batches, key=lambda batch: sum(map(len, batch)))
    middle, largest = sized[len(sized) // 2], sized[-1]
    before = lora.state()
    loaded.model.train()
    try:
        _step(passes, middle)  # caches fill, threads wake
        small = min(_timed(lambda: _step(passes, middle[: max(1, len(middle) // 2)])) for _ in "12")
        large = min(_timed(lambda: _step(passes, largest)) for _ in "12")
    finally:
        lora.load_state(before)
        loaded.model.eval()
        if own:
            passes.close()
    tokens_small = sum(map(len, middle[: max(1, len(middle) // 2)]))
    tokens_large = sum(map(len, largest))
    slope = (large - small) / (tokens_large - tokens_small) if tokens_large > tokens_small else 0.0
    if not 0 < slope < large / tokens_large * 1.5:
        slope = large / tokens_large
    fixed = max(0.0, large - slope * tokens_large)
    return Fit(slope, fixed, peak_memory(loaded.device), tokens_large / large)


def _step(passes: Passes, rows: Sequence[Tokens]) -> None:
    for pack in passes.packs(rows):
        passes.loss(pack).backward()  # type: ignore[no-untyped-call]
    for weight in passes.lora.parameters():
        weight.grad = None
    passes.stepped()


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(device: torch.device) -> int:
    """Peak bytes so far: of the GPU's allocator, or resident in this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def steps_in(budget: float, fit: Fit, mean_tokens: float, evaluation_seconds: float) -> int:
    """How many steps a budget of seconds buys, evaluations paid first.

    Raises:
        DoesNotFit: not even one.
    """
    left = budget * SLACK - evaluation_seconds
    steps = int(left / fit.seconds(mean_tokens))
    if steps < 1:
        raise DoesNotFit(
            f"one step takes {fit.seconds(mean_tokens):.1f} s and the evaluations {evaluation_seconds:.1f} s, "
            f"which is more than the budget of {budget:.0f} s",
            where="--budget",
            hint=f"Allow at least {(fit.seconds(mean_tokens) * 4 + evaluation_seconds) / SLACK:.0f}s, or fewer --rows.",
        )
    return steps


def check_disk(folder: Path, lora: LoraSet) -> None:
    """Raise `DoesNotFit` when checkpoints (adapter and two moments, old and new at once) would not fit."""
    needed = sum(weight.numel() * 4 for weight in lora.parameters()) * 8 + (16 << 20)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DoesNotFit(
            f"checkpoints need {needed / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free",
            where=str(folder),
            hint="Free some space, or point ALLMEND_HOME at another disk.",
        )
