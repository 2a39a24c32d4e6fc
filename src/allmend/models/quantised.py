"""Frozen linear layers in 8 or 4 bits, unpacked for the product that needs them and for no longer.

8 bits: whole numbers, one scale a group of weights. 4 bits: the NormalFloat codebook of QLoRA (Dettmers et al.,
arXiv:2305.14314, appendix E), whose sixteen values are quantiles of a normal distribution, one scale a group. A group
is 64 neighbouring weights of a row (fewer where 64 does not divide a row), its scale their largest size in bf16, so
weights take 8.25 and 4.25 bits. Biases, norms, embeddings and the head stay as they are.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import linear
from transformers import PreTrainedModel

from allmend.errors import UsageError

Bits = Literal[4, 8]

NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""The sixteen values of 4-bit NormalFloat."""

_GROUPS = (64, 32, 16, 8)


def group_of(width: int) -> int | None:
    """How many neighbours share a scale in rows of `width` weights; None where no size divides it."""
    return next((size for size in _GROUPS if width % size == 0), None)


def pack_weight(weight: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """(out, in) weights to codes and scales.

    Returns:
        Codes: int8 (out, in), or uint8 (out, in / 2) whose low half bytes hold the first half of each group and whose
        high ones the second. Scales: (out, groups) bf16.
    """
    rows, width = weight.shape
    group = group_of(width)
    assert group is not None
    parts = weight.detach().float().view(rows, width // group, group)
    # Codes are made for the scale as it is kept, so that rounding it costs nothing twice.
    scale = (parts.abs().amax(-1) / (127 if bits == 8 else 1)).clamp(min=1e-30).bfloat16()
    unit = parts / scale.float().unsqueeze(-1)
    if bits == 8:
        return unit.round().clamp(-127, 127).to(torch.int8).view(rows, width), scale
    values = torch.tensor(NF4, device=weight.device)
    codes = torch.bucketize(unit, (values[1:] + values[:-1]) / 2).to(torch.uint8)
    low, high = codes.chunk(2, dim=-1)
    return (low | (high << 4)).reshape(rows, width // 2), scale


def unpack_weight(codes: Tensor, scale: Tensor, out: Tensor) -> Tensor:
    """Codes and scales of `pack_weight` to weights, into `out` (out, in), which may be columns of a wider one."""
    rows, groups = scale.shape
    if codes.dtype == torch.int8:
        parts = codes.view(rows, groups, -1).to(out.dtype) * scale.to(out.dtype).unsqueeze(-1)
    else:
        wide, values = scale.float().unsqueeze(-1), torch.tensor(NF4, device=out.device)
        halves = [values.index_select(0, part.flatten().int()) for part in (codes & 15, codes >> 4)]
        parts = torch.cat([half.view(rows, groups, -1) for half in halves], dim=-1) * wide
    return out.copy_(parts.view(rows, -1))


class QuantisedLinear(nn.Linear):
    """A frozen linear layer whose weights are codes; `weight` unpacks them anew each time it is read."""

    def __init__(self, base: nn.Linear, bits: Bits) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bits = base.in_features, base.out_features, bits
        self.dtype = base.weight.dtype
        codes, scale = pack_weight(base.weight, bits)
        self.register_buffer("codes", codes)
        # As whole numbers, since a module's `to(dtype)` would change it.
        self.register_buffer("scale_bits", scale.view(torch.int16))
        self.bias = base.bias

    codes: Tensor
    scale_bits: Tensor

    @property
    def scale(self) -> Tensor:
        """(out, groups) bf16."""
        return self.scale_bits.view(torch.bfloat16)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(out, in) in the model's dtype; made anew."""
        out = torch.empty(self.out_features, self.in_features, dtype=self.dtype, device=self.codes.device)
        return unpack_weight(self.codes, self.scale, out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer: x (…, in) to (…, out) of its dtype; the weights are unpacked for the product alone."""
        return cast(Tensor, _Product.apply(x, self))  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Sizes and bits."""
        return f"{self.in_features}, {self.out_features}, bits={self.bits}"


class _Product(Function):
    """`x W^T + b` for a frozen W that is unpacked for either pass and kept by neither."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return linear(x, layer.weight.to(x.dtype), layer.bias)

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> tuple[Tensor, None]:
        return outer[0] @ ctx.layer.weight.to(outer[0].dtype), None


@torch.no_grad()
def quantise(model: PreTrainedModel, bits: int) -> int:
    """Quantise every linear layer but the output head, one after the other, so that no second copy ever exists.

    Returns:
        How many layers are as they were, because no group size divides their rows.

    Raises:
        UsageError: neither 4 nor 8 bits.
    """
    if bits not in (4, 8):
        raise UsageError(f"a base in {bits} bits is not known", where="--base-bits", hint="Give 8 or 4.")
    head, left = model.get_output_embeddings(), 0
    for name, module in list(model.named_modules()):
        if type(module) is not nn.Linear or module is head:
            continue
        if group_of(module.in_features) is None:
            left += 1
            continue
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, QuantisedLinear(module, cast(Bits, bits)))
    return left
