"""AdamW over fp32 weights, with its state as named tensors for checkpoints; on several processes each may keep a share.

Where all weights of a model are learned the moments are the largest part of what training holds. Each process then
keeps those of some weights only, takes their steps and sends the weights to the others: stage 1 of ZeRO (Rajbhandari
et al., arXiv:1910.02054).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn

from allmend.tuning import together

_STATE = ("step", "exp_avg", "exp_avg_sq")


class AdamW:
    """torch's fused AdamW (Loshchilov and Hutter, arXiv:1711.05101), without weight decay.

    Args:
        shared_out: each process keeps the moments of its share of the weights only.
    """

    def __init__(
        self, weights: Sequence[nn.Parameter], betas: tuple[float, float] = (0.9, 0.99), shared_out: bool = False
    ) -> None:
        self._weights = list(weights)
        count = together.processes()
        self._owner = shares([weight.numel() for weight in weights], count) if shared_out and count > 1 else None
        own = distributed.get_rank() if self._owner else 0
        mine = [weight for place, weight in enumerate(self._weights) if not self._owner or self._owner[place] == own]
        self._inner = torch.optim.AdamW(mine, lr=0.0, betas=betas, weight_decay=0.0, fused=True)

    def step(self, rate: float) -> None:
        """One update at this learning rate; gradients are dropped after it."""
        for group in self._inner.param_groups:
            group["lr"] = rate
        self._inner.step()
        for weight in self._weights:
            weight.grad = None
        if self._owner:
            for weight, owner in zip(self._weights, self._owner, strict=True):
                distributed.broadcast(weight.data, owner)

    def state(self, copy: bool = True) -> dict[str, Tensor]:
        """Moments and counters, on the CPU, of all weights in every process; `copy=False` may give the ones that
        training goes on with.
        """
        state = self._inner.state
        found: dict[str, Tensor] = {}
        for place, weight in enumerate(self._weights):
            parts = state.get(weight, {})
            if self._owner:
                parts = self._sent(weight, self._owner[place], parts)
            for name, value in parts.items():
                found[f"{place}.{name}"] = value.detach().to("cpu", copy=copy)
        return found

    def _sent(self, weight: nn.Parameter, owner: int, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """A weight's state from the process that keeps it."""
        known = together.agreed(bool(parts), owner)
        found = {}
        for name in _STATE if known else ():
            value = parts.get(name)
            if value is None:
                value = torch.zeros((), device=weight.device) if name == "step" else torch.empty_like(weight)
            else:
                value = value.detach().to(weight.device, copy=True)
            distributed.broadcast(value, owner)
            found[name] = value
        return found

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Put tensors from `state` back."""
        own = distributed.get_rank() if self._owner else 0
        for key, value in tensors.items():
            place, _, name = key.partition(".")
            if self._owner and self._owner[int(place)] != own:
                continue
            weight = self._weights[int(place)]
            # torch's fused step counts on the device of the weight.
            self._inner.state[weight][name] = value.to(weight.device, copy=True)


def shares(sizes: Sequence[int], count: int) -> list[int]:
    """Which of `count` processes takes each weight: largest first, to whoever has least."""
    loads, owner = [0] * count, [0] * len(sizes)
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        least = min(range(count), key=lambda one: (loads[one], one))
        owner[place] = least
        loads[least] += sizes[place]
    return owner
