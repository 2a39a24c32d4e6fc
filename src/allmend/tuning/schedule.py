"""The learning rate over the steps: a short climb, a plateau of decline to zero."""

from __future__ import annotations


def rate(step: int, steps: int, peak: float, warmup: float = 0.05) -> float:
    """Learning rate of 0-based `step` of `steps`: linear up over the first share `warmup`, then linear to zero."""
    climb = max(1, round(steps * warmup))
    if step < climb:
        return peak * (step + 1) / climb
    return peak * max(0.0, (steps - step) / max(1, steps - climb))
