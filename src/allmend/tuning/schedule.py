"""The learning rate over the steps: a short climb, then a decline to zero, at once or from a step that is named."""

from __future__ import annotations


def rate(
    step: int,
    steps: int,
    peak: float,
    warmup: float = 0.05,
    *,
    climb: int | None = None,
    decay_from: int | None = None,
) -> float:
    """Learning rate of 0-based `step` of `steps`: linear up over the first share `warmup`, then linear to zero.

    Args:
        climb: steps of the climb, instead of a share.
        decay_from: the rate stays at its peak up to this step; until then it does not depend on `steps`, so that a
            run whose end is still open can be paused and continued.
    """
    if climb is None:
        climb = max(1, round(steps * warmup))
    if step < climb:
        return peak * (step + 1) / climb
    start = climb if decay_from is None else max(climb, decay_from)
    if decay_from is not None and step < start:
        return peak
    return peak * max(0.0, (steps - step) / max(1, steps - start))
