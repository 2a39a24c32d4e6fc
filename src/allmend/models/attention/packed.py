"""Attention per segment of a pack, instead of one dense block-diagonal mask over the whole of it.

A pack is one sequence of T tokens made of N rows of lengths L_1..L_N. A dense mask costs T² scores; per row it
is the sum of L_i². Rows are gathered into a few padded batches of like length (the packer sorts by length, so
the padding is small), each batch is one call of torch's fused causal attention, and the results are put back.
Padding sits at the end of a row, where a causal mask keeps it from touching real tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from allmend.models.attention import flex

PACKED = "allmend"


@dataclass(frozen=True)
class Group:
    """Rows of like length that are attended in one call."""

    gather: torch.Tensor
    """(N, L) positions in the pack; padding repeats the row's last position."""
    real: torch.Tensor
    """(n,) positions in the flattened (N * L) that are real tokens, in pack order."""
    places: torch.Tensor
    """(n,) positions in the pack of those tokens."""
    keys: torch.Tensor | None = None
    """(N, prefix + L) positions of the keys where rows share a prefix; None where keys are where queries are."""


@dataclass(frozen=True)
class Segments:
    """How the rows of a pack lie."""

    lengths: tuple[int, ...]
    groups: tuple[Group, ...]
    positions: torch.Tensor
    """(1, T) position of each token in its own row."""
    prefix: int = 0
    """Tokens at the beginning of the pack that every row begins with; they are the first of `lengths`, and the
    others are the rows' own parts. 0 where rows share nothing."""
    masks: dict[tuple[str, int], Any] = field(default_factory=dict, compare=False, repr=False)
    """What kernels keep of this pack between layers."""

    @property
    def padded(self) -> bool:
        """Whether some rows are attended beside longer ones."""
        return any(group.gather.numel() != group.places.numel() for group in self.groups)


def segments_of(
    lengths: Sequence[int], device: torch.device | str = "cpu", waste: float = 0.25, prefix: int = 0
) -> Segments:
    """Plan the attention of a pack of rows of these lengths, in order.

    Args:
        lengths: tokens of each row, each at least 1; with `prefix`, of their own parts.
        waste: the share of padding that is accepted before rows get a group of their own.
        prefix: tokens that stand once, before the first row, and belong to every row.
    """
    whole = [prefix, *lengths] if prefix else list(lengths)
    starts = [0]
    for length in whole:
        starts.append(starts[-1] + length)
    groups = [_group([0], whole, starts, device)] if prefix else []
    first = 1 if prefix else 0
    for members in like_lengths(lengths, waste):
        groups.append(_group([first + member for member in members], whole, starts, device, prefix))
    places = [torch.arange(length) + (prefix if number >= first else 0) for number, length in enumerate(whole)]
    return Segments(tuple(whole), tuple(groups), sent(torch.cat(places).unsqueeze(0), device), prefix)


def sent(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """A tensor made on the CPU, on `device`; to a GPU through pinned memory, without waiting for it."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def like_lengths(lengths: Sequence[int], waste: float = 0.25) -> list[list[int]]:
    """Rows (by number, longest first) in groups in which at most the share `waste` would be padding."""
    groups: list[list[int]] = []
    real = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        padded = lengths[groups[-1][0]] * (len(groups[-1]) + 1) if groups else 0
        if not groups or padded - real - lengths[row] > waste * padded:
            groups.append([])
            real = 0
        groups[-1].append(row)
        real += lengths[row]
    return groups


def _group(
    members: Sequence[int],
    lengths: Sequence[int],
    starts: Sequence[int],
    device: torch.device | str,
    prefix: int = 0,
) -> Group:
    size = torch.tensor([lengths[row] for row in members])
    start = torch.tensor([starts[row] for row in members])
    steps = torch.arange(int(size.max()))
    inside = steps.unsqueeze(0) < size.unsqueeze(1)
    gather = start.unsqueeze(1) + torch.minimum(steps.unsqueeze(0), size.unsqueeze(1) - 1)
    return Group(
        gather=sent(gather, device),
        real=sent(inside.flatten().nonzero().squeeze(1), device),
        places=sent(gather[inside], device),
        keys=sent(torch.cat([torch.arange(prefix).expand(len(members), prefix), gather], dim=1), device)
        if prefix
        else None,
    )


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    segments: Segments | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The function that transformers' attention modules call.

    Args:
        query: (1, H, T, D); key and value: (1, K, T, D) with H a multiple of K.
        segments: how the pack's rows lie; passed to the model's `forward` as a keyword.

    Returns:
        (1, T, H, D) and None for the weights.
    """
    if segments is None:
        raise ValueError("packed attention was called without `segments`")
    if kwargs.get("softcap") is not None:
        raise ValueError("packed attention does not cap scores")
    causal = getattr(module, "is_causal", True) is not False
    if not causal and (segments.padded or sliding_window is not None):
        # Without the causal mask nothing would keep padding from the tokens before it.
        raise ValueError("packed attention in both directions takes neither padding nor windows")
    rows_q, rows_k, rows_v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if len(segments.groups) == 1 and len(segments.lengths) == 1:
        return _attend(query, key, value, scaling, dropout, sliding_window, causal).transpose(1, 2), None
    if causal and flex.why_not(query, dropout) is None:
        attended = flex.try_flex(query, key, value, segments, scaling, sliding_window)
        if attended is not None:
            return attended.transpose(1, 2), None
    output = torch.empty_like(rows_q) if not torch.is_grad_enabled() else None
    pieces = []
    for group in segments.groups:
        keys = group.gather if group.keys is None else group.keys
        q = _gathered(rows_q, group.gather)
        k, v = (_gathered(tensor, keys) for tensor in (rows_k, rows_v))
        attended = _attend(q, k, v, scaling, dropout, sliding_window, causal)
        flat = attended.transpose(1, 2).flatten(0, 1).index_select(0, group.real)
        if output is None:
            pieces.append(flat)
        else:
            output[group.places] = flat
    if output is None:
        places = torch.cat([group.places for group in segments.groups])
        output = torch.cat(pieces).index_select(0, torch.argsort(places))
    return output.unsqueeze(0), None


def _gathered(rows: torch.Tensor, gather: torch.Tensor) -> torch.Tensor:
    """(T, H, D) to (N, H, L, D). `index_select`, since its gradient is a plain addition."""
    return rows.index_select(0, gather.flatten()).view(*gather.shape, *rows.shape[1:]).transpose(1, 2)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    dropout: float,
    sliding_window: int | None,
    causal: bool = True,
) -> torch.Tensor:
    """(N, H, L, D) causal attention over (N, K, M, D), within `sliding_window` tokens where one is given.

    The last query stands at the last key. Where it is not causal, everything sees everything.
    """
    length, keys = query.shape[2], key.shape[2]
    mask = None
    narrow = sliding_window is not None and keys > sliding_window
    if causal and (narrow or keys > length):
        steps = torch.arange(keys, device=query.device)
        distance = steps[keys - length :].unsqueeze(1) - steps.unsqueeze(0)
        mask = distance >= 0
        if narrow and sliding_window is not None:
            mask &= distance < sliding_window
    repeat = query.shape[1] // key.shape[1]
    if repeat > 1:
        key, value = (_repeat(tensor, repeat) for tensor in (key, value))
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal and mask is None, scale=scaling
    )


def _repeat(tensor: torch.Tensor, times: int) -> torch.Tensor:
    """(N, K, L, D) to (N, K * times, L, D), each head repeated in place, without a copy where K is 1."""
    count, heads, length, width = tensor.shape
    if heads == 1:
        return tensor.expand(count, times, length, width)
    return tensor.unsqueeze(2).expand(count, heads, times, length, width).flatten(1, 2)


@contextmanager
def use_packed(model: PreTrainedModel) -> Iterator[None]:
    """Let the model attend over packs inside the block."""
    before = model.config._attn_implementation
    model.config._attn_implementation = PACKED
    try:
        yield
    finally:
        model.config._attn_implementation = before


ALL_ATTENTION_FUNCTIONS.register(PACKED, packed_attention)
