"""A frozen weight with its LoRA as a border, so that one product does the work of three.

    M = [ W   s B ]      (out + r, in + r)
        [ A    0  ]

With X = [x, x Aᵀ] the layer's output is X M[:out]ᵀ = x Wᵀ + s (x Aᵀ) Bᵀ, and with Y = [dy, dy s B] the input's
gradient is Y M[:, :in] = dy W + (dy s B) A: two large products whose inner width grows by r, and two thin ones, all
on views of one buffer. What reads the same input (q, k, v; gate and up) shares one M, with B block by block.
The frozen layers' weights become views of M, so that nothing is kept twice; quantised ones are unpacked into a buffer
that all layers share, for one product at a time.

Two options of a LoRA change the formulas. DoRA (arXiv:2402.09353) multiplies each output, before the bias, by
g = magnitude / |row of W + s B A|, whose norm counts as a constant in the backward pass. Dropout takes x in x Aᵀ times
a random mask, one for all layers that read the same input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from allmend.adapters.layer import row_norms
from allmend.models.quantised import QuantisedLinear
from allmend.tuning.fast.chains import Chains


@dataclass(frozen=True)
class Low:
    """The LoRA of one linear layer: A (r, in) and B (out, r) in fp32, its scale, and DoRA's magnitudes (out,)."""

    a: nn.Parameter
    b: nn.Parameter
    scale: float
    magnitude: nn.Parameter | None = None


class Scratch:
    """One buffer for the unpacked weights of whatever product is under way."""

    def __init__(self) -> None:
        self._room: Tensor | None = None

    def take(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """(rows, columns) of unspecified numbers, in the dtype and on the device of `like`."""
        if self._room is None or self._room.numel() < rows * columns:
            self._room = None
            self._room = like.new_empty(rows * columns)
        return self._room[: rows * columns].view(rows, columns)


class Bordered:
    """One or more frozen linear layers on the same input, side by side, with their LoRAs."""

    def __init__(self, bases: Sequence[nn.Linear], lows: Sequence[Low | None], dropout: float = 0.0) -> None:
        self.bases, self.lows = list(bases), list(lows)
        self.width = bases[0].in_features
        self.sizes = [base.out_features for base in bases]
        self.out = sum(self.sizes)
        self.ranks = [low.a.shape[0] if low else 0 for low in lows]
        self.rank = sum(self.ranks)
        self.dropout = dropout if self.rank else 0.0
        self.gain = self._magnitudes()
        self._of_magnitudes: list[Tensor | None] = []
        self._hold()
        self.bias = self._bias()
        self.refresh()

    def _hold(self) -> None:
        """Take the weights in."""
        weight = self.bases[0].weight
        self.matrix = torch.zeros(
            self.out + self.rank, self.width + self.rank, dtype=weight.dtype, device=weight.device
        )
        self.like = self.matrix
        self.border_a, self.border_b = self.matrix[self.out :, : self.width], self.matrix[: self.out, self.width :]
        row = 0
        with torch.no_grad():
            for base, size in zip(self.bases, self.sizes, strict=True):
                place = self.matrix[row : row + size, : self.width]
                place.copy_(base.weight)
                base.weight = nn.Parameter(place, requires_grad=False)
                row += size
        self.row_squares = self._row_squares()

    def whole(self) -> Tensor:
        """M; its lower right corner is not to be read."""
        return self.matrix

    def release(self) -> None:
        """Give the frozen layers memory of their own again."""
        for base in self.bases:
            base.weight = nn.Parameter(base.weight.detach().clone(), requires_grad=False)

    def _bias(self) -> Tensor | None:
        if all(base.bias is None for base in self.bases):
            return None
        parts = [
            base.bias.detach() if base.bias is not None else self.like.new_zeros(base.out_features)
            for base in self.bases
        ]
        return torch.cat(parts)

    def _magnitudes(self) -> Tensor | None:
        if all(low is None or low.magnitude is None for low in self.lows):
            return None
        return torch.ones(self.out, device=self.bases[0].weight.device)

    def _row_squares(self) -> list[Tensor | None]:
        """|row of W|² where DoRA asks for it; W does not change."""
        return [
            base.weight.float().square().sum(1) if low and low.magnitude is not None else None
            for base, low in zip(self.bases, self.lows, strict=True)
        ]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """A and B of each LoRA, in order, and its magnitudes where it has them."""
        found: list[nn.Parameter] = []
        for low in self.lows:
            if low:
                found += [low.a, low.b] if low.magnitude is None else [low.a, low.b, low.magnitude]
        return found

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring A and B into the border; once an optimiser step."""
        row = rank = 0
        for place, (low, size, r) in enumerate(zip(self.lows, self.sizes, self.ranks, strict=True)):
            if low:
                self.border_a[rank : rank + r] = low.a
                self.border_b[row : row + size, rank : rank + r] = low.b * low.scale
                squares = self.row_squares[place]
                if low.magnitude is not None and squares is not None and self.gain is not None:
                    norms = row_norms(self.bases[place].weight, squares, low.a, low.b, low.scale)
                    self.gain[row : row + size] = low.magnitude / norms
            row += size
            rank += r

    def room(self, tokens: int) -> Tensor:
        """(tokens, in + r), whose first columns take the input."""
        return self.like.new_empty(tokens, self.width + self.rank)

    def room_back(self, tokens: int) -> Tensor:
        """(tokens, out + r), whose first columns take the output's gradient."""
        return self.like.new_empty(tokens, self.out + self.rank)

    def forward(self, x: Tensor, drop: Tensor | None = None) -> Tensor:
        """x (T, in + r) with its first columns filled, to (T, out); fills the others.

        Args:
            drop: (T, in) factors of the LoRA's input.
        """
        if self.rank:
            given = x[:, : self.width] if drop is None else x[:, : self.width] * drop
            # `out=` would refuse to write beside what it reads in autograd, which is not at work here.
            torch.mm(given, self.border_a.T, out=x[:, self.width :])
        top = self.whole()[: self.out].T
        if self.gain is not None:
            y = (x @ top).mul_(self.gain)
            return y if self.bias is None else y.add_(self.bias)
        return x @ top if self.bias is None else torch.addmm(self.bias, x, top)

    def back(self, dy: Tensor, y: Tensor, drop: Tensor | None = None) -> Tensor:
        """dy (T, out + r) with its first columns filled, to the input's gradient (T, in); fills the others.

        Args:
            y: (T, out) as `forward` returned it; read only for DoRA, which also changes `dy` to the gradient before
                its gain.
        """
        self.back_low(dy, y)
        left = self.whole()[:, : self.width]
        if drop is None:
            return dy @ left
        low = (dy[:, self.out :] @ self.border_a).mul_(drop)
        return low.addmm_(dy[:, : self.out], left[: self.out])

    def back_low(self, dy: Tensor, y: Tensor) -> None:
        """Only the last columns of dy: where nothing below is learned."""
        if self.gain is not None:
            self._gain_back(dy[:, : self.out], y)
        if self.rank:
            torch.mm(dy[:, : self.out], self.border_b, out=dy[:, self.out :])

    def _gain_back(self, dy: Tensor, y: Tensor) -> None:
        assert self.gain is not None
        product = dy.float() * (y.float() if self.bias is None else y.float() - self.bias.float())
        sums, row = product.sum(0), 0
        self._of_magnitudes = []
        for low, size in zip(self.lows, self.sizes, strict=True):
            if low is None or low.magnitude is None:
                self._of_magnitudes.append(None)
            else:
                self._of_magnitudes.append(sums[row : row + size] / low.magnitude)
            row += size
        dy.mul_(self.gain)

    def gradients(self, x: Tensor, low: Tensor, dy: Tensor, drop: Tensor | None = None) -> list[Tensor]:
        """Gradients of `parameters` in fp32.

        Args:
            x: (T, in), what the layer read; low: (T, r), its product with A.
            dy: (T, out + r) as `back` left it.
        """
        if not self.rank:
            return []
        found: list[Tensor] = []
        whole = dy[:, self.out :].T @ (x if drop is None else x * drop)
        row = rank = 0
        for place, (one, size, r) in enumerate(zip(self.lows, self.sizes, self.ranks, strict=True)):
            if one:
                found.append(whole[rank : rank + r].float())
                thin = low[:, rank : rank + r].T @ dy[:, row : row + size]
                found.append(thin.T.float().mul_(one.scale).contiguous())
                magnitude = self._of_magnitudes[place] if self.gain is not None else None
                if magnitude is not None:
                    found.append(magnitude)
            row += size
            rank += r
        return found

    def drawn(self, tokens: int) -> Tensor | None:
        """A random mask (T, in) for the LoRA's input, scaled to keep its mean; None without dropout."""
        return drop_mask((tokens, self.width), self.dropout, self.like) if self.dropout else None


class BorderedQuantised(Bordered):
    """The same over quantised layers, which stay as they are."""

    def __init__(
        self,
        bases: Sequence[QuantisedLinear],
        lows: Sequence[Low | None],
        dropout: float,
        chains: Chains,
        scratch: Scratch,
    ) -> None:
        self.chains, self.scratch, self.packed = chains, scratch, list(bases)
        super().__init__(bases, lows, dropout)

    def _hold(self) -> None:
        first = self.packed[0]
        self.like = torch.empty(0, dtype=first.dtype, device=first.codes.device)
        self.border_a = self.like.new_zeros(self.rank, self.width)
        self.border_b = self.like.new_zeros(self.out, self.rank)
        self.row_squares = self._row_squares()

    def whole(self) -> Tensor:
        """M, unpacked; good until the next layer's."""
        made = self.scratch.take(self.out + self.rank, self.width + self.rank, self.like)
        row = 0
        for base, size in zip(self.packed, self.sizes, strict=True):
            self.chains.unpack(base.codes, base.scale, made[row : row + size, : self.width])
            row += size
        made[self.out :, : self.width] = self.border_a
        made[: self.out, self.width :] = self.border_b
        return made

    def release(self) -> None:
        """Nothing was taken."""


def drop_mask(shape: tuple[int, int], share: float, like: Tensor) -> Tensor:
    """Factors that drop so large a share and keep the mean: 0, or 1 / (1 - share)."""
    return like.new_empty(shape).bernoulli_(1 - share).div_(1 - share)
