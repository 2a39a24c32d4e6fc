"""The training loop.

Everything that decides a number is fixed before the first step: seed, order of rows, number of steps. The clock may
move the number of steps, down or (early on) up, and each time it does is written down, so that a replay does the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from allmend.data import Tokens
from allmend.errors import TrainingDiverged
from allmend.models.loading import Loaded
from allmend.tuning import checkpoint, together
from allmend.tuning.checkpoint import Progress
from allmend.tuning.divided import DividedModel
from allmend.tuning.optimiser import AdamW
from allmend.tuning.packs import Pack, batches
from allmend.tuning.passes import Learned, Passes
from allmend.tuning.schedule import rate
from allmend.tuning.tricks import Tricks

LAST, BEST = "last.safetensors", "best.safetensors"
_PATIENCE = 10
_UP_FROM, _UP_UNTIL = 0.15, 0.7
"""Steps are added between these shares of the plan: before, speed is not known well; after, the rate has fallen."""
_SAVING = 0.02


@dataclass(frozen=True)
class Plan:
    """What a run will do, fixed before it starts."""

    steps: int
    rate: float
    batch_rows: int
    seed: int = 0
    pack_tokens: int = 2048
    warmup: float = 0.05
    clip: float = 1.0
    """Largest norm of a step's gradient."""
    evaluations: int = 4
    deadline: float | None = None
    """Seconds of training after which steps are taken off the plan; None for a replay."""
    most_steps: int | None = None
    """Steps that may be had at most where the machine turns out faster than it was measured; None adds none."""
    replanned: tuple[tuple[int, int], ...] = ()
    """(step, steps) of the run that is replayed."""
    climb: int | None = None
    """Steps of warm-up, instead of the share `warmup`."""
    decay_from: int | None = None
    """The rate stays at its peak up to this step; until then `steps` may still be moved."""
    evaluate_at: tuple[int, ...] = ()
    """Steps after which the selection loss is measured, instead of `evaluations` of them; the last is always one."""
    pause_at: int | None = None
    """Stop here with a checkpoint to go on from."""
    checkpoint_seconds: float = 30.0
    """At most so long between two checkpoints; less where writing one is cheap (`_SAVING` of the time goes there)."""
    threads: int | None = None
    """Threads to train with; None is what torch is set to. Another number adds in another order."""
    tricks: Tricks = field(default_factory=Tricks)
    recompute: bool = False
    """Whether activations are made again in the backward pass: the same bits, less memory."""
    share_moments: bool = False
    """Whether each of several processes keeps the optimiser's moments of its share of the weights only."""


@dataclass(frozen=True)
class Step:
    """What the loop reports after a step."""

    step: int
    steps: int
    loss: float
    rate: float
    tokens: int
    seconds: float
    select_loss: float | None = None


@dataclass
class Outcome:
    """How training ended."""

    progress: Progress
    losses: list[float] = field(default_factory=list)
    """Training loss per learned token, of each step of this sitting."""
    select_losses: list[tuple[int, float]] = field(default_factory=list)


def train(
    loaded: Loaded,
    lora: Learned,
    rows: Sequence[Tokens],
    select: Sequence[Tokens],
    plan: Plan,
    folder: Path,
    report: Callable[[Step], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    passes: Passes | None = None,
) -> Outcome:
    """Train `lora` in place; leaves `best.safetensors` and `last.safetensors` in `folder`, and the best in `lora`.

    Continues from `folder` when a checkpoint of the same plan lies there: the continued run ends in the same bits as
    one that was never stopped (on a CPU).

    Args:
        passes: how steps are worked out, where it has been settled before; closed by whoever made it.
        stop: asked between two steps; True saves and raises `KeyboardInterrupt`, with nothing half done.

    Raises:
        TrainingDiverged: the loss became NaN or ran away. The best checkpoint so far is kept.
        InputError: the checkpoint is damaged.
    """
    own = passes is None
    threads = torch.get_num_threads()
    if plan.threads:
        torch.set_num_threads(plan.threads)
    passes = passes or Passes.of(loaded, lora, plan.tricks, plan.pack_tokens)
    if plan.recompute and not passes.recomputes:
        passes.recompute("as planned")
    try:
        trainer = _Trainer(passes, rows, select, plan, folder, report, stop)
        loaded.model.train()
        return trainer.run()
    finally:
        loaded.model.eval()
        torch.set_num_threads(threads)
        if own:
            passes.close()


class _Trainer:
    def __init__(
        self,
        passes: Passes,
        rows: Sequence[Tokens],
        select: Sequence[Tokens],
        plan: Plan,
        folder: Path,
        report: Callable[[Step], None] | None,
        stop: Callable[[], bool],
    ) -> None:
        self.passes, self.lora, self.rows, self.plan = passes, passes.lora, rows, plan
        self.folder, self.report, self.stop = folder, report, stop
        self.select = passes.packs(select) if select else []
        self.optimiser = AdamW(self.lora.parameters(), shared_out=plan.share_moments)
        self.progress = Progress(steps=plan.steps)
        self.outcome = Outcome(self.progress)
        if (folder / LAST).is_file():
            self._continue()

    def _continue(self) -> None:
        adapter, optimiser, self.progress = checkpoint.load(self.folder / LAST)
        self.lora.load_state(adapter)
        self.passes.stepped()
        self.optimiser.load_state(optimiser)
        self.outcome.progress = self.progress
        if self.plan.decay_from is not None and self.progress.step <= self.plan.decay_from:
            # Nothing so far depended on where it ends.
            self.progress.steps = self.plan.steps

    def run(self) -> Outcome:
        started = time.perf_counter()
        wait, saved = 0.0, started
        before = self.progress.seconds
        order = batches(len(self.rows), self.plan.batch_rows, self.plan.seed, self.progress.step)
        while self.progress.step < self._end():
            step = self.progress.step
            # Dropout draws from this, so that a continued run draws what an unbroken one would.
            torch.manual_seed(self.plan.seed * 1_000_003 + step)
            loss = self._step([self.rows[place] for place in next(order)], step)
            self.progress.step += 1
            self.progress.seconds = before + time.perf_counter() - started
            chosen = self._evaluate() if self._is_evaluation(self.progress.step) else None
            self.progress.seconds = before + time.perf_counter() - started
            self._replan()
            if self.report:
                self.report(
                    Step(
                        step=self.progress.step,
                        steps=self.progress.steps,
                        loss=loss,
                        rate=self._rate(step),
                        tokens=self.progress.tokens,
                        seconds=self.progress.seconds,
                        select_loss=chosen,
                    )
                )
            # While the loss is far too high the checkpoint from before stays: after a divergence it is the good one.
            if time.perf_counter() - saved > wait and not self.progress.high:
                begun = time.perf_counter()
                self._save()
                saved = time.perf_counter()
                wait = min(self.plan.checkpoint_seconds, (saved - begun) / _SAVING)
            if together.agreed(self.stop()) and self.progress.step < self._end():
                self._save()
                raise KeyboardInterrupt
        self._save()
        if self.progress.step >= self.progress.steps:
            self._take_best()
        return self.outcome

    def _end(self) -> int:
        return min(self.progress.steps, self.plan.pause_at or self.progress.steps)

    def _rate(self, step: int) -> float:
        plan = self.plan
        return rate(step, self.progress.steps, plan.rate, plan.warmup, climb=plan.climb, decay_from=plan.decay_from)

    def _step(self, rows: Sequence[Tokens], step: int) -> float:
        """One optimiser step; the loss per learned token, each token weighing the same however rows are packed."""
        parts: list[Pack] = self.passes.packs(together.share(rows))
        fillers = self.passes.fillers(len(parts), rows)
        device = self.passes.loaded.device
        learned = together.total(sum(part.targets.numel() for part in parts), device)
        total = 0.0
        for part in parts:
            loss = self.passes.loss(part)
            (loss / max(1, learned)).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        for part in fillers:
            (self.passes.loss(part) * 0.0).backward()  # type: ignore[no-untyped-call]
        self.progress.tokens += sum(map(len, rows))
        if isinstance(self.lora, DividedModel):
            self.lora.take_gradients()
        else:
            together.add_gradients(self.lora.parameters())
        mean = together.total(total, device) / max(1, learned)
        norm = together.clip(self.lora.parameters(), self.plan.clip, isinstance(self.lora, DividedModel))
        self._check(mean, norm, step)
        self.optimiser.step(self._rate(step))
        self.passes.stepped()
        self.outcome.losses.append(mean)
        return mean

    def _check(self, loss: float, norm: float, step: int) -> None:
        if self.progress.first_loss is None and math.isfinite(loss):
            self.progress.first_loss = loss
        first = self.progress.first_loss or 0.0
        # A weight that has run away can also leave a finite loss that nothing changes any more: no gradient at all.
        progress = self.progress
        progress.high = progress.high + 1 if loss > 2 * first + 2 or norm == 0 else 0
        if math.isfinite(loss) and math.isfinite(norm) and progress.high < _PATIENCE:
            return
        stuck = f" and no step changes it any more ({_PATIENCE} times without a gradient)" if norm == 0 else ""
        raise self._diverged(f"the loss is {loss:.3g}{stuck}, it began at {first:.3g}", step)

    def _diverged(self, how: str, step: int) -> TrainingDiverged:
        best = self.progress.best_step
        kept = f"The best so far (step {best}) is kept." if best else "Nothing had been measured yet, so none is best."
        return TrainingDiverged(
            f"training diverged: {how}",
            where=f"step {step + 1}",
            hint=f"{kept} Try a lower --learning-rate than {self.plan.rate:g}.",
        )

    def _is_evaluation(self, step: int) -> bool:
        if step == self.progress.steps:
            return True
        if self.plan.evaluate_at:
            return step in self.plan.evaluate_at
        every = max(1, self.plan.steps // max(1, self.plan.evaluations))
        return step % every == 0

    def _evaluate(self) -> float | None:
        if not self.select:
            return None
        value = self.passes.mean_loss(self.select)
        self.outcome.select_losses.append((self.progress.step, value))
        if math.isfinite(value) and (self.progress.best_loss is None or value < self.progress.best_loss):
            self.progress.best_loss, self.progress.best_step = value, self.progress.step
            checkpoint.save(self.folder / BEST, self.lora.state(copy=False), {}, self.progress)
        return value

    def _replan(self) -> None:
        """Take steps off the plan when the deadline would be missed, never below one more; add some where time would
        be left over."""
        progress = self.progress
        for step, steps in self.plan.replanned:
            if step == progress.step and self.plan.deadline is None:
                progress.steps = steps
                progress.replanned.append((step, steps))
                if steps == step:
                    self._evaluate()
        if self.plan.deadline is None or progress.step >= progress.steps:
            return
        each = progress.seconds / progress.step
        possible = progress.step + int(max(0.0, self.plan.deadline - progress.seconds) / each)
        possible = together.agreed(possible)
        # Small misses are noise of a shared machine; near the end every step counts.
        if possible < progress.steps and (possible < progress.steps * 0.95 or progress.steps - progress.step < 5):
            progress.steps = max(possible, progress.step)
            progress.replanned.append((progress.step, progress.steps))
            if progress.steps == progress.step:
                self._evaluate()
        possible = min(possible, self.plan.most_steps or 0)
        if _UP_FROM <= progress.step / progress.steps <= _UP_UNTIL and possible > progress.steps * 1.04:
            progress.steps = possible
            progress.replanned.append((progress.step, possible))

    def _save(self) -> None:
        learned = self.lora.state(copy=False)
        # With several processes the loss of the next step is what tells all of them at once.
        sides = (side for weight in learned.values() if weight.numel() for side in weight.aminmax())
        if together.processes() == 1 and not all(math.isfinite(float(side)) for side in sides):
            # The loss would tell with the next step; until then this would pass for a good checkpoint.
            raise self._diverged("weights are not finite any more", self.progress.step - 1)
        checkpoint.save(self.folder / LAST, learned, self.optimiser.state(copy=False), self.progress)

    def _take_best(self) -> None:
        if (self.folder / BEST).is_file():
            adapter, _, _ = checkpoint.load(self.folder / BEST)
            self.lora.load_state(adapter)
            self.passes.stepped()
