"""A frozen linear layer with a low-rank update beside it."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from allmend.adapters.config import LoraConfig
from allmend.errors import InputError


class LoraLinear(nn.Module):
    """`y = x W^T + b + scale * (x A^T) B^T`, with W and b frozen.

    A and B are kept in fp32, where the optimiser works; they are multiplied in the base's dtype.

    Shapes: x (..., in), W (out, in), A (rank, in), B (out, rank).
    """

    def __init__(self, base: nn.Linear, config: LoraConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.base = base
        self.scale = config.scale
        self.dropout = config.dropout
        device = base.weight.device
        a = torch.empty(config.rank, base.in_features, dtype=torch.float32)
        # B starts at zero, so the first step sees the base alone; A is drawn as PEFT draws it.
        bound = 1 / math.sqrt(base.in_features)
        a.uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(a.to(device))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, config.rank, dtype=torch.float32, device=device))
        self.enabled = True

    @property
    def weight(self) -> Tensor:
        """Refused: an architecture that multiplies by the weight itself would go around the update.

        Raises:
            InputError: always.
        """
        raise InputError(
            "this architecture reads the weights of some layers itself, so a LoRA on them would do nothing",
            where="--targets",
            hint="Name other layers; of a Mamba these are in_proj, x_proj and out_proj.",
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        if not self.enabled:
            return cast(Tensor, self.base(x))
        kept = dropout(x, self.dropout, self.training) if self.dropout else x
        low = linear(kept, self.lora_a.to(x.dtype))
        # The scale goes onto the small factor: rank numbers a row instead of `out`.
        return cast(Tensor, self.base(x)) + linear(low, (self.lora_b * self.scale).to(x.dtype))

    @torch.no_grad()
    def update(self) -> Tensor:
        """What merging adds to W: scale * B A, (out, in), fp32."""
        return self.scale * (self.lora_b @ self.lora_a)
