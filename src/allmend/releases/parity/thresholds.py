"""How far an artefact may be from what was tested, in loss per learned token, by number format.

Set from measured noise: the default model tuned on the movie reviews, 64 held-out rows, each artefact whole and
right (`bench/ship/noise.py` measures it again). A threshold is about three times the noise of its format, so that
a sound artefact passes and none of the planted defects in `tests/releases/test_defects.py` does. Formats of 4 bits
and below lose quality by themselves; theirs bounds what is worth shipping, and the cost is stated beside it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """Natural logarithm per token."""

    mean: float
    """Of the absolute differences of all rows."""
    worst: float
    """Of any row."""


LIMITS = {
    "f32": Limit(0.002, 0.01),
    "f16": Limit(0.01, 0.05),
    "bf16": Limit(0.03, 0.15),
    "q8_0": Limit(0.05, 0.25),
    "q6_k": Limit(0.08, 0.4),
    "q5_k_m": Limit(0.12, 0.6),
    "q5_0": Limit(0.12, 0.6),
    "q4_k_m": Limit(0.25, 1.2),
    "q4_k_s": Limit(0.3, 1.4),
    "q4_0": Limit(0.4, 1.8),
    "q3_k_m": Limit(0.7, 3.0),
    "q2_k": Limit(1.5, 5.0),
}


def allowed(type_: str) -> Limit:
    """The threshold of a format."""
    return LIMITS[type_]
