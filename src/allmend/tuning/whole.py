"""Full fine-tuning: every weight of the model is learned, in fp32 whatever dtype the model computes in.

A model in bf16 has too few digits for small updates, so masters in fp32 take the gradients and the steps, and the
model's own weights are their rounding. Gradients move to the masters as soon as they are made, so that both kinds
never exist for all weights at once. A model in fp32 is its own master.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class WholeModel:
    """All weights of a model as what is learned; has the surface of a `LoraSet`."""

    model: nn.Module
    masters: dict[str, nn.Parameter] = field(init=False)
    """By name; weights that are tied appear once."""

    def __post_init__(self) -> None:
        self.masters, self._hooks = {}, []
        self._weights = dict(self.model.named_parameters())
        for name, weight in self._weights.items():
            weight.requires_grad_(True)
            if weight.dtype == torch.float32:
                self.masters[name] = weight
                continue
            master = nn.Parameter(weight.detach().float())
            hook = weight.register_post_accumulate_grad_hook(_mover(master))  # type: ignore[no-untyped-call]
            self._hooks.append(hook)
            self.masters[name] = master

    def parameters(self) -> list[nn.Parameter]:
        """The masters, in a stable order."""
        return [self.masters[name] for name in sorted(self.masters)]

    def state(self, copy: bool = True) -> dict[str, Tensor]:
        """The masters by name, fp32 on the CPU; `copy=False` may give the ones that training goes on with."""
        return {name: weight.detach().to("cpu", copy=copy) for name, weight in sorted(self.masters.items())}

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Put tensors from `state` back."""
        for name, master in self.masters.items():
            master.copy_(tensors[name])
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the masters into the model; once an optimiser step."""
        for name, weight in self._weights.items():
            if weight is not self.masters[name]:
                weight.copy_(self.masters[name])

    def release(self) -> None:
        """Freeze the model again, with what it has learned; the masters are dropped."""
        for hook in self._hooks:
            hook.remove()
        for weight in self._weights.values():
            weight.requires_grad_(False)
            weight.grad = None
        self.masters = {}


def _mover(master: nn.Parameter) -> Callable[[Tensor], None]:
    def move(weight: Tensor) -> None:
        assert weight.grad is not None
        if master.grad is None:
            master.grad = weight.grad.float()
        else:
            master.grad += weight.grad
        weight.grad = None

    return move
