"""Rows into batches, and batches into packs.

A batch is what one optimiser step learns from: a fixed number of rows, drawn without replacement, epoch by epoch,
in an order that depends on the seed alone. A pack is what one forward pass sees: rows of a batch, laid end to end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from allmend.data import Tokens
from allmend.models.attention import Segments, segments_of
from allmend.models.attention.packed import sent


@dataclass(frozen=True)
class Pack:
    """Rows laid end to end.

    Shapes: ids (1, T); predict (P,) positions whose next token is learned; targets (P,) those tokens.
    """

    ids: Tensor
    predict: Tensor
    targets: Tensor
    segments: Segments
    tokens: int
    """Tokens of real text, learned or only read; a shared prefix counts for every row that has it."""


def pack(rows: Sequence[Tokens], device: torch.device | str = "cpu", share_prefix: bool = False) -> Pack:
    """Lay rows end to end, longest first; `share_prefix` puts what all of them begin with there once."""
    rows = sorted(rows, key=len, reverse=True)
    prefix = shared_prefix(rows) if share_prefix else 0
    ids: list[int] = list(rows[0].ids[:prefix])
    predict: list[int] = []
    for row in rows:
        # The first token of a row is predicted by nothing, even where it is marked as learned.
        start = len(ids) - prefix
        predict.extend(start + place - 1 for place in range(1, len(row)) if row.mask[place])
        ids.extend(row.ids[prefix:])
    all_ids, places = torch.tensor([ids]), torch.tensor(predict, dtype=torch.long)
    whole, where, targets = (sent(one, device) for one in (all_ids, places, all_ids[0, places + 1]))
    segments = segments_of([len(row) - prefix for row in rows], device, prefix=prefix)
    return Pack(whole, where, targets, segments, sum(map(len, rows)))


def shared_prefix(rows: Sequence[Tokens], least: int = 4) -> int:
    """How many tokens all rows begin with and none of them learns; 0 below `least`, or for a single row.

    Each row keeps at least one token of its own that is only read, so that what predicts its first learned token is
    its own.
    """
    if len(rows) < 2:
        return 0
    shared = min(row.mask.find(1) if 1 in row.mask else len(row) for row in rows) - 1
    first = rows[0].ids
    for row in rows[1:]:
        shared = next((place for place in range(shared) if row.ids[place] != first[place]), shared)
        if shared < least:
            return 0
    return shared


def packs(
    rows: Sequence[Tokens], limit: int, device: torch.device | str = "cpu", share_prefix: bool = False
) -> list[Pack]:
    """Rows as packs of at most `limit` tokens (a longer row is a pack of its own), rows of like length together."""
    return [pack(group, device, share_prefix) for group in grouped(rows, limit)]


def grouped(rows: Sequence[Tokens], limit: int) -> list[list[Tokens]]:
    """The rows of each pack, in the order in which `pack` lays them."""
    result: list[list[Tokens]] = []
    for row in sorted(rows, key=len, reverse=True):
        if result and sum(map(len, result[-1])) + len(row) <= limit:
            result[-1].append(row)
        else:
            result.append([row])
    return result


def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch; depends on nothing but its arguments."""
    return [int(place) for place in np.random.default_rng([seed, epoch]).permutation(rows)]


def batches(rows: int, size: int, seed: int, start: int = 0) -> Iterator[list[int]]:
    """Row numbers of batch `start`, `start + 1`, … without end; an epoch's last batch may be smaller."""
    each = -(-rows // size)
    step = start
    while True:
        epoch, inside = divmod(step, each)
        order = epoch_order(rows, seed, epoch)
        for place in range(inside, each):
            yield order[place * size : (place + 1) * size]
            step += 1
