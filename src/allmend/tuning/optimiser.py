"""AdamW over the adapter's fp32 weights, with its state as named tensors for checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class AdamW:
    """torch's fused AdamW (Loshchilov and Hutter, arXiv:1711.05101), without weight decay on an adapter."""

    def __init__(self, weights: Sequence[nn.Parameter], betas: tuple[float, float] = (0.9, 0.99)) -> None:
        self._inner = torch.optim.AdamW(weights, lr=0.0, betas=betas, weight_decay=0.0, fused=True)
        self._weights = list(weights)

    def step(self, rate: float) -> None:
        """One update at this learning rate; gradients are dropped after it."""
        for group in self._inner.param_groups:
            group["lr"] = rate
        self._inner.step()
        self._inner.zero_grad(set_to_none=True)

    def state(self, copy: bool = True) -> dict[str, Tensor]:
        """Moments and counters, on the CPU; `copy=False` may give the ones that training goes on with."""
        state = self._inner.state
        return {
            f"{place}.{name}": value.detach().to("cpu", copy=copy)
            for place, weight in enumerate(self._weights)
            for name, value in state.get(weight, {}).items()
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Put tensors from `state` back."""
        for key, value in tensors.items():
            place, _, name = key.partition(".")
            weight = self._weights[int(place)]
            self._inner.state[weight][name] = value.clone() if name == "step" else value.to(weight.device, copy=True)
