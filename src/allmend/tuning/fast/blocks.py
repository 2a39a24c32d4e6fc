"""Which queries of a pack attend to which keys, as few dense blocks.

Rows of like length share a block; a long row is cut into blocks of queries that each see only the keys they may, so
that a causal mask halves the work and a sliding window bounds it. A shared prefix stands in the pack once: its
tokens are keys of every row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from allmend.models.attention import Segments
from allmend.models.attention.packed import like_lengths, sent

WHOLE, PART = 384, 256
"""Rows up to WHOLE tokens are one block; longer ones are cut into blocks of PART queries."""


@dataclass(frozen=True)
class Block:
    """Queries that are attended in one batched product."""

    query: Tensor
    """(N, L) places in the pack, -1 where a row is shorter."""
    key: Tensor
    """(N, M) places in the pack, -1 where there is none."""
    first_query: int
    """Position of each row's first query in its row."""
    first_key: int


@dataclass(frozen=True)
class Blocks:
    """All of a pack's blocks for one sliding window."""

    parts: tuple[Block, ...]
    shared: bool
    """Whether a key appears in several blocks or rows, so that its gradients must be added up."""


def blocks_of(segments: Segments, window: int) -> Blocks:
    """Plan attention for a pack.

    Args:
        window: how many tokens back a query sees, itself included; 0 for all.
    """
    lengths, prefix = segments.lengths, segments.prefix
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    parts: list[Block] = []
    device = segments.positions.device
    if prefix:
        parts += _cut([0], [prefix], 0, window, device)
    rows = range(1, len(lengths)) if prefix else range(len(lengths))
    for members in like_lengths([lengths[row] for row in rows]):
        places = [rows[member] for member in members]
        parts += _cut([starts[row] for row in places], [lengths[row] for row in places], prefix, window, device)
    seen = sum(int((part.key >= 0).sum()) for part in parts)
    return Blocks(tuple(parts), seen > sum(lengths))


def _cut(starts: list[int], lengths: list[int], prefix: int, window: int, device: torch.device) -> list[Block]:
    """Blocks of rows that begin at `starts`, behind `prefix` tokens that stand at the pack's beginning."""
    longest = max(lengths)
    size = longest if longest <= WHOLE else PART
    start, length = torch.tensor(starts).unsqueeze(1), torch.tensor(lengths).unsqueeze(1)
    blocks = []
    for begin in range(0, longest, size):
        end = min(begin + size, longest)
        here = (length > begin).squeeze(1)
        own = torch.arange(begin, end).unsqueeze(0)
        query = torch.where(own < length[here], start[here] + own, -1)
        first_key = max(0, prefix + begin - window + 1) if window else 0
        position = torch.arange(first_key, prefix + end).unsqueeze(0)
        inside = position - prefix
        key = torch.where(inside < 0, position, torch.where(inside < length[here], start[here] + inside, -1))
        blocks.append(
            Block(sent(query.contiguous(), device), sent(key.contiguous(), device), prefix + begin, first_key)
        )
    return blocks
