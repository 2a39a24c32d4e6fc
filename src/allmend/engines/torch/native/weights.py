"""Matrices laid out in tiles of sixteen rows, in 32, 16, 8 or 4 bits; see `kernels/matmul.hpp`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from allmend.engines.torch.native import abi

TILE = 16
_AT_ONCE = 4096
"""Rows laid out at once: the copies in between stay small beside the matrix."""


@dataclass
class Tiled:
    """A weight as the step reads it."""

    rows: int
    columns: int
    kind: str
    data: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def structure(self) -> abi.Matrix:
        """For the step; `self` must outlive it."""
        return abi.Matrix(
            abi.KINDS[self.kind], 0, self.rows, self.columns,
            self.data.data_ptr(), _at(self.scale), _at(self.bias),
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Bytes it holds."""
        return sum(each.nbytes for each in (self.data, self.scale, self.bias) if each is not None)


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@torch.no_grad()
def tiled(weights: Sequence[Tensor], kind: str, biases: Sequence[Tensor | None] = ()) -> Tiled:
    """`weights` [rows, columns] one below the other, as one matrix of `kind`."""
    columns = weights[0].shape[1]
    rows = sum(weight.shape[0] for weight in weights)
    group = abi.GROUPS[kind]
    blocks, scales = [], []
    for block in _blocks(weights):
        filled = torch.zeros(-(-block.shape[0] // TILE) * TILE, -(-columns // group) * group)
        filled[: block.shape[0], :columns] = block
        data, scale = _LAYOUTS[kind](filled.view(-1, TILE, filled.shape[1]))
        blocks.append(data)
        if scale is not None:
            scales.append(scale)
    bias = None
    if any(each is not None for each in biases):
        parts = [
            torch.zeros(weight.shape[0]) if each is None else each.detach().float()
            for weight, each in zip(weights, biases, strict=True)
        ]
        bias = torch.cat([*parts, torch.zeros(-rows % TILE)])
    return Tiled(rows, columns, kind, torch.cat(blocks), torch.cat(scales) if scales else None, bias)


def _blocks(weights: Sequence[Tensor]) -> list[Tensor]:
    """Runs of rows, a multiple of a tile each but for the last."""
    if len(weights) == 1:
        whole = weights[0].detach()
        return [part.float() for part in torch.split(whole, _AT_ONCE)] if whole.shape[0] > _AT_ONCE else [whole.float()]
    return [torch.cat([weight.detach().float() for weight in weights])]


def _plain(tiles: Tensor) -> tuple[Tensor, None]:
    return tiles.transpose(1, 2).contiguous(), None


def _halves(tiles: Tensor) -> tuple[Tensor, None]:
    count, _, columns = tiles.shape
    return tiles.view(count, TILE, columns // 2, 2).transpose(1, 2).to(torch.bfloat16).contiguous(), None


def _rounded(tiles: Tensor, group: int, largest: int) -> tuple[Tensor, Tensor]:
    """(whole numbers [tiles, 16, groups, group], scales [tiles, groups, 16] in bf16)."""
    count, _, columns = tiles.shape
    grouped = tiles.view(count, TILE, columns // group, group)
    # The scale is rounded first, and the values to multiples of what it then is.
    scale = (grouped.abs().amax(-1) / largest).to(torch.bfloat16)
    step = scale.float()[..., None]
    whole = torch.where(step > 0, grouped / step, torch.zeros(())).round_().clamp_(-largest - 1, largest)
    return whole, scale.transpose(1, 2).contiguous()


def _eight(tiles: Tensor) -> tuple[Tensor, Tensor]:
    count, _, columns = tiles.shape
    whole, scale = _rounded(tiles, 64, 127)
    bytes_ = (whole + 128).to(torch.uint8).view(count, TILE, columns // 4, 4)
    return bytes_.transpose(1, 2).contiguous(), scale


def _four(tiles: Tensor) -> tuple[Tensor, Tensor]:
    count, _, columns = tiles.shape
    whole, scale = _rounded(tiles, 32, 7)
    nibbles = (whole + 8).to(torch.uint8).view(count, TILE, columns // 8, 2, 4)
    both = nibbles[:, :, :, 0] | nibbles[:, :, :, 1] << 4
    return both.transpose(1, 2).contiguous(), scale


_LAYOUTS = {"float32": _plain, "bfloat16": _halves, "int8": _eight, "int4": _four}
