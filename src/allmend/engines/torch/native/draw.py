"""Drawing the tokens of many rows in compiled code."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch

from allmend.engines.torch.native.abi import Draw
from allmend.engines.torch.native.build import library

TRIES = 16
"""Numbers at hand for a nucleus; each is within it with a probability of `top_p` at least."""


def draw(
    rows: Sequence[torch.Tensor], heats: Sequence[float], top_ps: Sequence[float], numbers: Sequence[Sequence[float]]
) -> list[int] | None:
    """A token for each row of float32 logits [vocabulary]; -1 where all numbers fell outside the nucleus.

    Args:
        heats: temperatures, above 0.
        numbers: uniform in [0, 1): as many for each row as there may be tries.

    Returns:
        None where there is no compiled code, or the rows are not in this processor's memory.
    """
    compiled, _ = library()
    if compiled is None or not rows or rows[0].device.type != "cpu":
        return None
    if any(row.dtype != torch.float32 or not row.is_contiguous() for row in rows):
        return None
    held = [(ctypes.c_double * len(each))(*each) for each in numbers]
    draws = (Draw * len(rows))(
        *(
            Draw(row.data_ptr(), ctypes.addressof(mine), len(mine), heat, top_p, -1, 0)
            for row, heat, top_p, mine in zip(rows, heats, top_ps, held, strict=True)
        )
    )
    compiled.draw(ctypes.addressof(draws), len(rows), rows[0].shape[0], torch.get_num_threads())
    return [each.token for each in draws]
