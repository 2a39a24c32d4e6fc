"""Training on several processes at once, started by `torchrun`: each takes its share of a batch's rows.

Every process holds the same adapter and optimiser. Gradients of sums, and the number of learned tokens, are added up
over all of them before the one step that all then take, so the result is that of one process up to the order of
additions. Outside `torchrun` all of this does nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

_Value = TypeVar("_Value")


def join() -> int:
    """Join the processes that `torchrun` started, once; returns how many there are, 1 where there are no others."""
    if not distributed.is_available():
        return 1
    if not distributed.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return processes()


def processes() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def share(rows: Sequence[_Value]) -> list[_Value]:
    """This process's rows of a batch."""
    if processes() == 1:
        return list(rows)
    return list(rows[distributed.get_rank() :: processes()])


def total(value: float, device: torch.device) -> float:
    """The sum of a number over all processes."""
    if processes() == 1:
        return value
    sums = torch.tensor([value], dtype=torch.float64, device=device)
    distributed.all_reduce(sums)
    return float(sums)


def add_gradients(weights: Sequence[nn.Parameter]) -> None:
    """Add up gradients over all processes, in one message; a process without rows adds zeros."""
    if processes() == 1:
        return
    parts: list[Tensor] = [weight.grad if weight.grad is not None else torch.zeros_like(weight) for weight in weights]
    flat = torch.cat([part.flatten() for part in parts])
    distributed.all_reduce(flat)
    start = 0
    for weight in weights:
        weight.grad = flat[start : start + weight.numel()].view_as(weight).clone()
        start += weight.numel()


def most(value: int) -> int:
    """The largest of all processes' numbers."""
    if processes() == 1:
        return value
    found: list[int] = [0] * processes()
    distributed.all_gather_object(found, value)
    return max(found)


def clip(weights: Sequence[nn.Parameter], limit: float, divided: bool) -> float:
    """Scale gradients down to a norm of at most `limit`; returns what the norm was.

    Args:
        divided: each process holds a share of the weights, so the norm is that of all shares together.
    """
    if not divided:
        return float(nn.utils.clip_grad_norm_(weights, limit))
    own = float(nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None]))
    norm = math.sqrt(total(own**2, weights[0].device))
    nn.utils.clip_grads_with_norm_(weights, limit, torch.tensor(norm))
    return norm


def agreed(value: _Value, source: int = 0) -> _Value:
    """The value of one process, in all of them: what a clock decides must be the same everywhere."""
    if processes() == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, source)
    return box[0]
