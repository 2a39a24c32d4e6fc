"""A frozen weight with its LoRA as a border, so that one product does the work of three.

    M = [ W   s B ]      (out + r, in + r)
        [ A    0  ]

With X = [x, x Aᵀ] the layer's output is X M[:out]ᵀ = x Wᵀ + s (x Aᵀ) Bᵀ, and with Y = [dy, dy s B] the input's
gradient is Y M[:, :in] = dy W + (dy s B) A: two large products whose inner width grows by r, and two thin ones, all
on views of one buffer. What reads the same input (q, k, v; gate and up) shares one M, with B block by block.
The frozen layers' weights become views of M, so that nothing is kept twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Low:
    """The LoRA of one linear layer: A (r, in) and B (out, r) in fp32, and its scale."""

    a: nn.Parameter
    b: nn.Parameter
    scale: float


class Bordered:
    """One or more frozen linear layers on the same input, side by side, with their LoRAs."""

    def __init__(self, bases: Sequence[nn.Linear], lows: Sequence[Low | None]) -> None:
        self.bases, self.lows = list(bases), list(lows)
        self.width = bases[0].in_features
        self.sizes = [base.out_features for base in bases]
        self.out = sum(self.sizes)
        self.ranks = [low.a.shape[0] if low else 0 for low in lows]
        self.rank = sum(self.ranks)
        weight = bases[0].weight
        self.matrix = torch.zeros(
            self.out + self.rank, self.width + self.rank, dtype=weight.dtype, device=weight.device
        )
        row = 0
        with torch.no_grad():
            for base, size in zip(bases, self.sizes, strict=True):
                place = self.matrix[row : row + size, : self.width]
                place.copy_(base.weight)
                base.weight = nn.Parameter(place, requires_grad=False)
                row += size
        self.bias = self._bias()
        self.refresh()

    def _bias(self) -> Tensor | None:
        if all(base.bias is None for base in self.bases):
            return None
        parts = [
            base.bias.detach() if base.bias is not None else base.weight.new_zeros(base.out_features)
            for base in self.bases
        ]
        return torch.cat(parts)

    def release(self) -> None:
        """Give the frozen layers memory of their own again."""
        for base in self.bases:
            base.weight = nn.Parameter(base.weight.detach().clone(), requires_grad=False)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """A and B of each LoRA, in order."""
        return [weight for low in self.lows if low for weight in (low.a, low.b)]

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring A and B into the border; once an optimiser step."""
        row = rank = 0
        for low, size, r in zip(self.lows, self.sizes, self.ranks, strict=True):
            if low:
                self.matrix[self.out + rank : self.out + rank + r, : self.width] = low.a
                self.matrix[row : row + size, self.width + rank : self.width + rank + r] = low.b * low.scale
            row += size
            rank += r

    def room(self, tokens: int) -> Tensor:
        """(tokens, in + r), whose first columns take the input."""
        return self.matrix.new_empty(tokens, self.width + self.rank)

    def room_back(self, tokens: int) -> Tensor:
        """(tokens, out + r), whose first columns take the output's gradient."""
        return self.matrix.new_empty(tokens, self.out + self.rank)

    def forward(self, x: Tensor) -> Tensor:
        """x (T, in + r) with its first columns filled, to (T, out); fills the others."""
        if self.rank:
            # `out=` would refuse to write beside what it reads in autograd, which is not at work here.
            torch.mm(x[:, : self.width], self.matrix[self.out :, : self.width].T, out=x[:, self.width :])
        if self.bias is not None:
            return torch.addmm(self.bias, x, self.matrix[: self.out].T)
        return x @ self.matrix[: self.out].T

    def back(self, dy: Tensor) -> Tensor:
        """dy (T, out + r) with its first columns filled, to the input's gradient (T, in); fills the others."""
        self.back_low(dy)
        return dy @ self.matrix[:, : self.width]

    def back_low(self, dy: Tensor) -> None:
        """Only the last columns of dy: where nothing below is learned."""
        if self.rank:
            torch.mm(dy[:, : self.out], self.matrix[: self.out, self.width :], out=dy[:, self.out :])

    def gradients(self, x: Tensor, low: Tensor, dy: Tensor) -> list[Tensor]:
        """Gradients of `parameters` in fp32.

        Args:
            x: (T, in), what the layer read; low: (T, r), its product with A.
            dy: (T, out + r) as `back` left it.
        """
        if not self.rank:
            return []
        found: list[Tensor] = []
        whole = dy[:, self.out :].T @ x
        row = rank = 0
        for one, size, r in zip(self.lows, self.sizes, self.ranks, strict=True):
            if one:
                found.append(whole[rank : rank + r].float())
                thin = low[:, rank : rank + r].T @ dy[:, row : row + size]
                found.append(thin.T.float().mul_(one.scale).contiguous())
            row += size
            rank += r
        return found
