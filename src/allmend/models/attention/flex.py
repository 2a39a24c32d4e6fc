"""Attention over a pack as one flexible-attention kernel: what GPUs do instead of a few padded calls.

The mask is a rule (same row or shared prefix, not later, within the window), of which blocks that hold nothing are
left out. On a GPU torch compiles kernel and mask; where that fails once, packs are attended in padded groups from
then on. Uncompiled it works anywhere, which is how the rule is tested.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from allmend.models.attention.packed import Segments

_failed: list[str] = []
"""Why it is not tried any more."""


def why_not(query: Tensor, dropout: float) -> str | None:
    """None where the compiled kernel is worth trying for this query; else the reason."""
    if query.device.type != "cuda":
        return "it is compiled for CUDA only"
    if dropout:
        return "it has no dropout"
    if importlib.util.find_spec("triton") is None:
        return "there is no Triton to compile it with"
    return _failed[0] if _failed else None


def try_flex(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scale: float | None, window: int | None
) -> Tensor | None:
    """`flex_packed`, compiled; None where that failed, now or before."""
    try:
        return flex_packed(query, key, value, segments, scale, window, _compiled())
    except Exception as error:  # compilers raise whatever they like
        _failed.append(f"compiling it failed ({type(error).__name__})")
        return None


def flex_packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    scale: float | None,
    window: int | None,
    kernel: Callable[..., Any] | None = None,
) -> Tensor:
    """(1, H, T, D) attended over (1, K, T, D) as the pack's rows lie, to (1, H, T, D).

    Args:
        kernel: what attends; torch's own, uncompiled, when not given.
    """
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    name = ("flex", window or 0)
    if name not in segments.masks:
        tokens = query.shape[2]
        segments.masks[name] = create_block_mask(
            rule(segments, window), None, None, tokens, tokens, device=query.device
        )
    attend = kernel or flex_attention
    found: Tensor = attend(
        query, key, value, block_mask=segments.masks[name], scale=scale, enable_gqa=query.shape[1] != key.shape[1]
    )
    return found


def rule(segments: Segments, window: int | None) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Which query sees which key: both are places in the pack."""
    positions = segments.positions[0]
    lengths = torch.tensor(segments.lengths, device=positions.device)
    row = torch.repeat_interleave(torch.arange(len(segments.lengths), device=positions.device), lengths)
    prefix = segments.prefix

    def sees(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        away = positions[q] - positions[k]
        together = row[q] == row[k]
        if prefix:
            together = together | (k < prefix)
        inside = (away >= 0) & together
        return inside & (away < window) if window else inside

    return sees


@cache
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    made: Callable[..., Any] = torch.compile(flex_attention, dynamic=True)
    return made
