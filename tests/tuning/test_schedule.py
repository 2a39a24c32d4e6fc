"""The learning rate: up, then down to nothing, never above its peak."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmend.tuning.schedule import rate

STEPS = st.integers(1, 500)
PEAK = st.floats(1e-7, 1.0)
WARMUP = st.floats(0, 1)


@given(steps=STEPS, peak=PEAK, warmup=WARMUP)
def test_it_climbs_then_falls(steps: int, peak: float, warmup: float) -> None:
    rates = [rate(step, steps, peak, warmup) for step in range(steps)]
    assert all(0 < value <= peak * (1 + 1e-12) for value in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(peak)
    assert top + 1 <= max(1, round(steps * warmup)) + 1
    assert rate(steps, steps, peak, 0.05) == 0.0 or steps == 1


def test_as_a_person_would_draw_it() -> None:
    assert [round(rate(step, 10, 1.0, 0.2), 3) for step in range(10)] == [
        0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125,
    ]  # fmt: skip
