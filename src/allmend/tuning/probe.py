"""The fit probe: a few real steps, measured, before anything is promised.

Two lengths are run (the median batch and the largest), twice each, the first time uncounted; from them come seconds
a step, peak memory, and how many steps the budget buys. Nothing that is learned changes.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from allmend.data import Tokens
from allmend.errors import DoesNotFit
from allmend.models.loading import Loaded
from allmend.nouns.choice import Choice
from allmend.tuning.memory import forget_peak, peak_memory
from allmend.tuning.optimiser import AdamW
from allmend.tuning.passes import Learned, Passes
from allmend.tuning.trial import trial_step
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
    seconds_per_evaluated_token: float | None = None
    """None where nothing was evaluated: about a third of a step's then."""

    def evaluation(self, tokens: float) -> float:
        """Predicted seconds of an evaluation over so many tokens."""
        if self.seconds_per_evaluated_token is None:
            return self.seconds(tokens) / 3
        return self.seconds_per_evaluated_token * tokens

    def seconds(self, tokens: float) -> float:
        """Predicted seconds of a step over so many tokens."""
        return self.seconds_fixed + self.seconds_per_token * tokens


def probe(
    loaded: Loaded,
    lora: Learned,
    batches: Sequence[Sequence[Tokens]],
    pack_tokens: int,
    passes: Passes | None = None,
    select: Sequence[Tokens] = (),
) -> Fit:
    """Measure; `batches` are real ones, of which the median and the largest by tokens are run.

    Args:
        passes: how steps are worked out, where it has been settled before.
        select: rows of the evaluations, of which the first pack is run: it can be longer than any batch.
    """
    own = passes is None
    passes = passes or Passes.of(loaded, lora, Tricks(), pack_tokens)
    sized = sorted(batches, key=lambda batch: sum(map(len, batch)))
    middle, largest = sized[len(sized) // 2], sized[-1]
    optimiser = AdamW(lora.parameters())
    try:
        trial_step(passes, middle, optimiser)  # caches fill, threads wake, moments come to be
        forget_peak(loaded.device)
        small = min(_timed(lambda: trial_step(passes, middle[: max(1, len(middle) // 2)], optimiser)) for _ in "12")
        large = min(_timed(lambda: trial_step(passes, largest, optimiser)) for _ in "12")
        evaluated: float | None = None
        if select:
            first = passes.packs(select)[:1]
            evaluated = _timed(lambda: passes.mean_loss(first)) / max(1, first[0].tokens)
        peak = peak_memory(loaded.device)
    finally:
        if own:
            passes.close()
    tokens_small = sum(map(len, middle[: max(1, len(middle) // 2)]))
    tokens_large = sum(map(len, largest))
    slope = (large - small) / (tokens_large - tokens_small) if tokens_large > tokens_small else 0.0
    if not 0 < slope < large / tokens_large * 1.5:
        slope = large / tokens_large
    fixed = max(0.0, large - slope * tokens_large)
    return Fit(slope, fixed, peak, tokens_large / large, evaluated)


def choose_threads(passes: Passes, rows: Sequence[Tokens]) -> Choice:
    """As many threads as are fastest here, by running real rows; torch is left set to them.

    More is not always faster: where other work keeps a core busy, each of a step's thousand small joint pieces of
    work waits for the thread that was held up.
    """
    most = torch.get_num_threads()
    if passes.loaded.device.type != "cpu" or most == 1:
        return Choice(name="threads", value=most, reason="there is no other number to try")
    speeds: dict[int, float] = {}
    for count in sorted({most, max(1, most // 2), 1}, reverse=True):
        torch.set_num_threads(count)
        seconds = min(_timed(lambda: trial_step(passes, rows)) for _ in "123")
        speeds[count] = sum(map(len, rows)) / seconds
    # A tie goes to more threads: what held one up may be over soon.
    best = max(speeds, key=lambda count: speeds[count] * (1.1 if count == most else 1.0))
    torch.set_num_threads(best)
    tried = ", ".join(f"{speed:.0f} tokens/s with {count}" for count, speed in speeds.items())
    return Choice(name="threads", value=best, reason=tried)


def choose_layers(passes: Passes, rows: Sequence[Tokens]) -> Choice | None:
    """On a GPU, the model's own layers where they are faster than ours there; None where there is nothing to choose.

    Ours win on a CPU by their compiled chains; on a GPU they are torch operations, and the model's own have
    flexible attention. Both give the same, so only time decides. `passes` is left set so.
    """
    if passes.stack is None:
        return None
    seconds = {}
    stack = passes.stack
    for name in ("lean", "the model's own"):
        passes.stack = stack if name == "lean" else None
        trial_step(passes, rows)
        seconds[name] = min(_timed(lambda: trial_step(passes, rows)) for _ in "12")
    passes.stack = stack
    best = min(seconds, key=seconds.__getitem__)
    if best != "lean":
        passes.close()
    tried = ", ".join(f"{sum(map(len, rows)) / time:.0f} tokens/s with {name}" for name, time in seconds.items())
    return Choice(name="layers_by_time", value=best, reason=tried)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()
    return time.perf_counter() - start


def steps_in(budget: float, fit: Fit, mean_tokens: float, evaluation_seconds: float) -> int:
    """How many steps a budget of seconds buys, evaluations paid first.

    Raises:
        DoesNotFit: not even one.
    """
    left = budget * SLACK - evaluation_seconds
    steps = int(left / fit.seconds(mean_tokens))
    if steps < 1:
        needed = (fit.seconds(mean_tokens) * 4 + evaluation_seconds) / SLACK - budget
        raise DoesNotFit(
            f"one step takes {fit.seconds(mean_tokens):.2g} s and the evaluations {evaluation_seconds:.2g} s, "
            f"and {max(0.0, budget):.2g} s of the budget are left for training",
            where="--budget",
            hint=f"Checking and measuring come out of it too: allow at least {math.ceil(needed)} s more.",
        )
    return steps


def check_disk(folder: Path, lora: Learned) -> None:
    """Raise `DoesNotFit` when checkpoints would not fit: weights and two moments, old and new, and what comes out."""
    needed = sum(weight.numel() * 4 for weight in lora.parameters()) * 10 + (16 << 20)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DoesNotFit(
            f"checkpoints need {needed / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free",
            where=str(folder),
            hint="Free some space, or point ALLMEND_HOME at another disk.",
        )
