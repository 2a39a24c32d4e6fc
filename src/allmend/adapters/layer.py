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
    """`y = g (x W^T + scale * (x A^T) B^T) + b`, with W and b frozen.

    g is 1, or with DoRA `magnitude / |row of W + scale B A|`, whose norm counts as a constant in the backward pass
    (section 4.3 of its paper). A, B and magnitudes are kept in fp32, where the optimiser works; A and B are
    multiplied in the base's dtype.

    Shapes: x (..., in), W (out, in), A (rank, in), B (out, rank), magnitude (out,).
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
        self.magnitude: nn.Parameter | None = None
        self._squares: Tensor | None = None
        if config.dora:
            # As long as B is zero the rows are those of the base.
            self._squares = base.weight.detach().float().square().sum(1)
            self.magnitude = nn.Parameter(self._squares.sqrt())
        self.enabled = True

    def gain(self) -> Tensor | None:
        """DoRA's factor of each output (out,), fp32; None without."""
        if self.magnitude is None or self._squares is None:
            return None
        return self.magnitude / row_norms(self.base.weight, self._squares, self.lora_a, self.lora_b, self.scale)

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
        """Apply the layer: x (…, in) to (…, out); the base alone where the adapter is switched off."""
        if not self.enabled:
            return cast(Tensor, self.base(x))
        kept = dropout(x, self.dropout, self.training) if self.dropout else x
        low = linear(kept, self.lora_a.to(x.dtype))
        # The scale goes onto the small factor: rank numbers a row instead of `out`.
        more = linear(low, (self.lora_b * self.scale).to(x.dtype))
        gain = self.gain()
        if gain is None:
            return cast(Tensor, self.base(x)) + more
        # Of dropped inputs the base's part is taken too where it is scaled, as PEFT does.
        bias = self.base.bias
        whole = linear(x, self.base.weight)
        dropped = whole if kept is x else linear(kept, self.base.weight)
        y = whole + (gain - 1).to(x.dtype) * dropped + gain.to(x.dtype) * more
        return y if bias is None else y + bias

    @torch.no_grad()
    def update(self) -> Tensor:
        """What merging adds to W, (out, in), fp32: scale * B A, and with DoRA what makes rows as long as they are."""
        added = self.scale * (self.lora_b @ self.lora_a)
        gain = self.gain()
        if gain is None:
            return added
        weight = self.base.weight.float()
        return gain.unsqueeze(1) * (weight + added) - weight


@torch.no_grad()
def row_norms(weight: Tensor, squares: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Length of each row of `W + scale B A`, (out,) fp32, without making that matrix.

    |w + s u|² = |w|² + 2 s w·u + s² |u|² for u = b A, of which w·u = (w Aᵀ)·b and |u|² = b (A Aᵀ)·b.

    Args:
        squares: |row of W|², (out,) fp32.
    """
    cross = ((weight.float() @ a.T) * b).sum(1)
    own = ((b @ (a @ a.T)) * b).sum(1)
    return (squares + 2 * scale * cross + scale**2 * own).clamp(min=1e-12).sqrt()
