"""How far an artefact may be from what was tested, in loss per learned token, by number format.

Set from measured noise: the default model tuned on the movie reviews, each artefact whole and right
(`bench/ship/noise.py` measures it again). On 12 reviews the mean and worst differences were: PEFT 0.00000 and 0.00001;
merged in bf16 0.0013 and 0.012; GGUF in bf16 0.0011 and 0.008; q8_0 0.010 and 0.053; q4_k_m 0.050 and 0.39 (0.22 and
0.56 before tensors in which rounding undid the adapter got finer formats, see `gguf/survival.py`); q4_0 as plain as
that 0.090 and 0.39; the adapter on the base's own q4_k_m file 0.032 and 0.22.
A model tuned for two steps only, still unsure of every answer, was further off on 8 rows: bf16 0.007 and 0.02, q8_0
0.036 and 0.07, q4_k_m 0.155 and 0.375, the adapter on the base's file 0.023 and 0.07. All formats on 32 rows of a
model tuned for a minute (`bench/ship/noise.json`): f16 0.003 and 0.017, bf16 0.003 and 0.021, q8_0 0.007 and 0.053,
q6_k 0.023 and 0.14, q5_k_m 0.034 and 0.46, q5_0 0.068 and 0.49, q4_k_m 0.051 and 0.39, q4_k_s 0.11 and 0.69, q4_0
0.038 and 0.28, q3_k_m 0.065 and 0.56, q2_k 0.12 and 0.77; the base rounded while tuning to 8 bits 0.015 and 0.13, to
4 bits 0.066 and 0.63. Limits are at least three times the largest mean that was seen, and wider for the worst row:
one model and few rows were measured, and a sound artefact of another must pass.

Formats of 6 bits and below lose quality by themselves, more on small models; their limits bound what is worth shipping,
and the cost is stated beside each file. Defects that stay below a limit are found by the audit of the files, which
computes every weight anew.
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
    "f16": Limit(0.02, 0.1),
    "bf16": Limit(0.02, 0.1),
    "q8_0": Limit(0.1, 0.5),
    "q6_k": Limit(0.2, 0.8),
    "q5_k_m": Limit(0.3, 1.2),
    "q5_0": Limit(0.3, 1.2),
    "q4_k_m": Limit(0.5, 2.0),
    "q4_k_s": Limit(0.5, 2.0),
    "q4_0": Limit(0.5, 2.5),
    "q3_k_m": Limit(0.8, 4.0),
    "q2_k": Limit(1.5, 6.0),
}

ON_ROUNDED = Limit(0.1, 0.7)
"""Of an adapter in GGUF on a base that was tuned in the very same rounding: only llama.cpp's arithmetic is left."""


BASE_ROUNDED = {8: Limit(0.1, 0.5), 4: Limit(0.5, 2.5)}
"""Of an adapter that was tested on the base rounded to so many bits, on the base itself."""


def allowed(type_: str, on: str | None = None, bits: int | None = None) -> Limit:
    """The threshold of a format.

    Args:
        on: of an adapter in GGUF, the format of the base's file.
        bits: 8 or 4 where what was tested stood on a base rounded so: the wider of both limits holds.
    """
    if on is None or on in ("f32", "f16", "bf16"):
        limit = LIMITS[on or type_]
    else:
        limit = ON_ROUNDED
    if bits is None:
        return limit
    other = BASE_ROUNDED[bits]
    return Limit(max(limit.mean, other.mean), max(limit.worst, other.worst))
