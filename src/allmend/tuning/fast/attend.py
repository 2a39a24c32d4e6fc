"""Causal attention over the blocks of a pack, forward and backward, as batched products.

Heads that share a key head are laid under each other, so that one product serves them all. Probabilities of short
blocks are kept for the backward pass (a few hundred bytes a token and head); those of long ones are made again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from allmend.tuning.fast.blocks import Blocks
from allmend.tuning.fast.chains import Chains, Turn

KEPT_KEYS = 512
"""Blocks with more keys than this recompute their probabilities."""


@dataclass(frozen=True)
class Heads:
    """How the columns of a q/k/v product divide."""

    keys: int
    """Key heads."""
    queries: int
    """Query heads a key head."""
    width: int
    scale: float
    """What scores are multiplied by."""
    window: int
    """How many tokens back a query sees, itself included; 0 for all."""

    @property
    def query(self) -> slice:
        """Columns of the queries."""
        return slice(0, self.keys * self.queries * self.width)

    @property
    def key(self) -> slice:
        """Columns of the keys."""
        return slice(self.query.stop, self.query.stop + self.keys * self.width)

    @property
    def value(self) -> slice:
        """Columns of the values."""
        return slice(self.key.stop, self.key.stop + self.keys * self.width)

    @property
    def many(self) -> tuple[int, int, int]:
        """Shape of the queries."""
        return self.keys, self.queries, self.width

    @property
    def few(self) -> tuple[int, int, int]:
        """Shape of keys and values."""
        return self.keys, 1, self.width


def attend(
    chains: Chains, qkv: Tensor, blocks: Blocks, heads: Heads, turns: tuple[Turn, Turn], out: Tensor, keep: bool
) -> list[Tensor | None]:
    """Attention of (T, q + k + v) into `out` (T, q).

    Returns:
        The probabilities that are kept for `attend_back`, block by block.
    """
    kept: list[Tensor | None] = []
    for block in blocks.parts:
        query = chains.gather_heads(qkv[:, heads.query], block.query, heads.many, turns[0])
        key = chains.gather_heads(qkv[:, heads.key], block.key, heads.few, turns[1])
        value = chains.gather_heads(qkv[:, heads.value], block.key, heads.few, None)
        share = _shares(chains, query, key, block.query.shape[1], block.first_query, block.first_key, heads)
        chains.scatter_heads(share @ value, block.query, heads.many, out)
        kept.append(share if keep and key.shape[1] <= KEPT_KEYS else None)
    return kept


def _shares(
    chains: Chains, query: Tensor, key: Tensor, length: int, first_query: int, first_key: int, heads: Heads
) -> Tensor:
    scores = query @ key.mT
    return chains.softmax(scores, length, first_query, first_key, heads.window, heads.scale)


def attend_back(
    chains: Chains,
    qkv: Tensor,
    blocks: Blocks,
    heads: Heads,
    turns: tuple[Turn, Turn],
    kept: list[Tensor | None],
    dout: Tensor,
    dqkv: Tensor,
) -> None:
    """Gradient of `attend`: from that of its output to that of q, k and v, into `dqkv` (T, q + k + v)."""
    sums = None
    if blocks.shared:
        sums = [torch.zeros(qkv.shape[0], heads.keys * heads.width, device=qkv.device) for _ in range(2)]
    for block, share in zip(blocks.parts, kept, strict=True):
        query = chains.gather_heads(qkv[:, heads.query], block.query, heads.many, turns[0])
        key = chains.gather_heads(qkv[:, heads.key], block.key, heads.few, turns[1])
        value = chains.gather_heads(qkv[:, heads.value], block.key, heads.few, None)
        if share is None:
            share = _shares(chains, query, key, block.query.shape[1], block.first_query, block.first_key, heads)
        dy = chains.gather_heads(dout, block.query, heads.many, None)
        dscores = chains.softmax_grad(share, dy @ value.mT, heads.scale)
        chains.scatter_heads(dscores @ key, block.query, heads.many, dqkv[:, heads.query])
        for place, found in enumerate((dscores.mT @ query, share.mT @ dy)):
            if sums is None:
                columns = heads.key if place == 0 else heads.value
                chains.scatter_heads(found, block.key, heads.few, dqkv[:, columns])
            else:
                chains.add_heads(found, block.key, heads.few, sums[place])
    if sums is not None:
        dqkv[:, heads.key] = sums[0]
        dqkv[:, heads.value] = sums[1]
    chains.heads_grad(dqkv[:, heads.query], qkv[:, heads.query], heads.many, turns[0])
    chains.heads_grad(dqkv[:, heads.key], qkv[:, heads.key], heads.few, turns[1])
