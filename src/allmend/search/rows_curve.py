"""Quality against rows: the winner's setting on a half and a quarter of the rows, and what that says of more data."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from allmend.adapters import LoraSet
from allmend.compute import Segment
from allmend.nouns.search import RowsMeasured
from allmend.search.trainer import BEST, Siblings, steps_for
from allmend.tuning import checkpoint
from allmend.tuning.passes import Passes
from allmend.verdicts.intervals import paired_interval

if TYPE_CHECKING:
    from allmend.search.state import Keeper

PARTS = (0.25, 0.5)


def measure(
    keeper: Keeper, siblings: Siblings, left: Callable[[], float], stop: Callable[[], bool], note: Callable[[str], None]
) -> None:
    """Train the winner's setting on parts of the rows for as many passes as it had, and compare row by row.

    What the time does not suffice for is left out, and said.
    """
    search = keeper.search
    if search.winner is None:
        return
    winner = search.trial(search.winner)
    if not winner.seconds or not winner.rows:
        return
    whole = siblings.rows
    # In random order, since files often have one label after another; each part holds the smaller ones.
    mixed = random.Random(siblings.shared.seed).sample(list(whole), len(whole))
    losses: dict[int, list[float]] = {}
    passes_made = winner.rows / len(whole)
    for part in PARTS:
        count = int(len(whole) * part)
        # Less than one pass sees other rows anyway: then a part of the rows is the same training, shorter.
        needed = winner.seconds * part * 1.1
        if stop() or left() < needed or count < winner.point.batch * 2:
            note(f"The curve's point at {count} rows is left out: it needs {needed:.0f} s and {left():.0f} s are left.")
            continue
        siblings.rows = mixed[:count]
        try:
            steps = steps_for(max(1, round(passes_made * count)), winner.point.batch, count)
            folder = keeper.folder / "trials" / f"rows-{count}"
            climb = max(1, round(0.05 * steps))
            every = tuple(sorted({max(1, steps * place // 4) for place in range(1, 5)}))
            segment = Segment(
                trial=winner.number, point=winner.point, folder=folder, until=steps, steps=steps, climb=climb,
                decay_from=max(climb, steps // 3), evaluate_at=every, seconds=max(1.0, left()),
            )  # fmt: skip
            siblings.run(segment, lambda event: None, stop)
        finally:
            siblings.rows = whole
        if stop() or not (folder / BEST).is_file():
            note(f"The curve's point at {count} rows is left out: its training ended before it was measured.")
            break
        losses[count] = _row_losses(siblings, winner.point, folder / BEST)
    if not losses or stop():
        return
    losses[len(whole)] = _row_losses(siblings, winner.point, keeper.folder_of(winner.number) / BEST)
    curve = _curve(losses)
    keeper.save(learning_curve=tuple(curve), more_data=honest(curve))
    note(keeper.search.more_data)


def _row_losses(siblings: Siblings, point: object, file: object) -> list[float]:
    lora, passes = siblings.take(point)  # type: ignore[arg-type]
    tensors, _, _ = checkpoint.load(file)  # type: ignore[arg-type]
    lora.load_state(tensors)
    passes.stepped()
    return losses_of(siblings, lora, passes)


@torch.inference_mode()
def losses_of(siblings: Siblings, lora: LoraSet, passes: Passes) -> list[float]:
    """Loss per learned token of each selection row, in their order."""
    return [passes.mean_loss(passes.packs([row])) for row in siblings.select]


def _curve(losses: dict[int, list[float]]) -> list[RowsMeasured]:
    curve: list[RowsMeasured] = []
    before: list[float] | None = None
    for rows, values in sorted(losses.items()):
        low, high = paired_interval(before, values) if before is not None else (None, None)
        curve.append(RowsMeasured(rows=rows, loss=sum(values) / len(values), low=low, high=high))
        before = values
    return curve


def honest(curve: list[RowsMeasured]) -> str:
    """What the curve allows to be said about more rows."""
    if len(curve) < 2:
        return ""
    before, last = curve[-2], curve[-1]
    change, times = last.loss - before.loss, last.rows / before.rows
    interval = f"{change:+.4f}, 95% interval {last.low:+.4f} to {last.high:+.4f}"
    step = f"From {before.rows} to {last.rows} rows ({times:.0f} times as many) the loss on selection rows changed by"
    if last.high is not None and last.high < 0:
        return f"{step} {interval}: more rows helped, and more would probably help again."
    if last.low is not None and last.low > 0:
        return f"{step} {interval}: it got worse with more rows. Look at how the rows differ before adding more."
    return f"{step} {interval}: not shown to help. More rows of this kind would probably bring little."
