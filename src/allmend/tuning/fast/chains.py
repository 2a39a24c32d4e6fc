"""The elementwise chains of a decoder layer in torch operations: what `kernels.cpp` does in one pass each.

They serve where there is no C++ compiler, on GPUs, and in tests as what the compiled ones are held equal to.
Arithmetic is in fp32, storage in the model's dtype. T: tokens of the pack; D: width; N: rows of a block; L: queries
of a row; K: key heads; G: query heads a key head; W: width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from allmend.models.quantised import unpack_weight

Kind = Literal["silu", "gelu_tanh"]


@dataclass(frozen=True)
class Turn:
    """How heads are normed and rotated before they meet; None where they are not."""

    cosine: Tensor
    """(positions, W), fp32."""
    sine: Tensor
    position: Tensor
    """(T,) position of each token in its row, int64."""
    norm: Tensor | None
    """(W,) fp32 weight of the norm over a head."""
    eps: float


class Chains(Protocol):
    """The functions; tensors named `out` are written in place and may be columns of a wider one."""

    def add_norm(
        self,
        resid: Tensor,
        delta: Tensor | None,
        post: Tensor | None,
        next: Tensor | None,
        out: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """`h = resid + norm(delta) * post`, `out = norm(h) * next`; h and both inverse roots (T,) fp32."""

    def norm_grad(self, dy: Tensor, x: Tensor, root: Tensor, weight: Tensor, add: Tensor | None, out: Tensor) -> Tensor:
        """`out = add +` the gradient of `norm(x) * weight`; dy, x, add and out (T, D), root (T,) fp32."""

    def glu(self, both: Tensor, out: Tensor, kind: Kind) -> Tensor:
        """(T, 2F) gate and up to `act(gate) * up`."""

    def glu_grad(self, both: Tensor, dy: Tensor, out: Tensor, kind: Kind) -> Tensor:
        """Gradient of both into `out` (T, 2F); returns `act(gate) * up` again."""

    def gather_heads(self, source: Tensor, index: Tensor, heads: tuple[int, int, int], turn: Turn | None) -> Tensor:
        """(T, K * G * W) at `index` (N, L), -1 for zeros, to (N * K, G * L, W), normed and rotated."""

    def scatter_heads(self, source: Tensor, index: Tensor, heads: tuple[int, int, int], out: Tensor) -> None:
        """(N * K, G * L, W) back into rows of `out` (T, K * G * W), without rotation."""

    def add_heads(self, source: Tensor, index: Tensor, heads: tuple[int, int, int], total: Tensor) -> None:
        """Added to rows of `total` (T, K * W) fp32; a row may be added to many times."""

    def heads_grad(self, grad: Tensor, before: Tensor, heads: tuple[int, int, int], turn: Turn) -> None:
        """In place in `grad` (N * K, G * L, W): from after norm and rotation to `before` them."""

    def softmax(
        self, scores: Tensor, length: int, first_query: int, first_key: int, window: int, scale: float
    ) -> Tensor:
        """In place: (B, G * length, keys) scores to causal probabilities; window 0 is none."""

    def softmax_grad(self, share: Tensor, grad: Tensor, scale: float) -> Tensor:
        """In place in `grad` (B, G * length, keys): from the gradient of probabilities `share` to that of scores."""

    def unpack(self, codes: Tensor, scale: Tensor, out: Tensor) -> None:
        """Quantised weights (see `models.quantised`) into `out` (out, in)."""


class TorchChains:
    """`Chains` in torch operations."""

    name = "torch"

    def add_norm(
        self,
        resid: Tensor,
        delta: Tensor | None,
        post: Tensor | None,
        next: Tensor | None,
        out: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See `Chains`."""
        root_post = root_next = None
        if delta is not None:
            added = delta.float()
            if post is not None:
                root_post = _root(added, eps)
                added = added * root_post.unsqueeze(-1) * post
            resid = (resid.float() + added).to(resid.dtype)
        if next is not None and out is not None:
            whole = resid.float()
            root_next = _root(whole, eps)
            out.copy_(whole * root_next.unsqueeze(-1) * next)
        return resid, root_post, root_next

    def norm_grad(self, dy: Tensor, x: Tensor, root: Tensor, weight: Tensor, add: Tensor | None, out: Tensor) -> Tensor:
        """See `Chains`."""
        unit = x.float() * root.unsqueeze(-1)
        inner = dy.float() * weight
        result = root.unsqueeze(-1) * (inner - unit * (unit * inner).mean(-1, keepdim=True))
        return out.copy_(result if add is None else add.float() + result)

    def glu(self, both: Tensor, out: Tensor, kind: Kind) -> Tensor:
        """See `Chains`."""
        gate, lift = both.float().chunk(2, dim=-1)
        return out.copy_(_act(gate, kind) * lift)

    def glu_grad(self, both: Tensor, dy: Tensor, out: Tensor, kind: Kind) -> Tensor:
        """See `Chains`."""
        gate, lift = both.float().chunk(2, dim=-1)
        value, slope = _act(gate, kind), _slope(gate, kind)
        width = gate.shape[-1]
        out[:, :width] = dy.float() * lift * slope
        out[:, width:] = dy.float() * value
        return (value * lift).to(both.dtype)

    def gather_heads(self, source: Tensor, index: Tensor, heads: tuple[int, int, int], turn: Turn | None) -> Tensor:
        """See `Chains`."""
        kv, per, width = heads
        (count, length), flat = index.shape, index.clamp(min=0).flatten()
        x = source.index_select(0, flat).view(count * length, kv * per, width)
        if turn is not None:
            cosine, sine = _angles(turn, flat)
            wide = x.float()
            if turn.norm is not None:
                wide = wide * _root(wide, turn.eps).unsqueeze(-1) * turn.norm
            x = (wide * cosine + _rotated(wide) * sine).to(source.dtype)
        x = x.masked_fill((index < 0).view(-1, 1, 1), 0)
        return x.view(count, length, kv, per, width).permute(0, 2, 3, 1, 4).reshape(count * kv, per * length, width)

    def scatter_heads(self, source: Tensor, index: Tensor, heads: tuple[int, int, int], out: Tensor) -> None:
        """See `Chains`."""
        flat, real = _rows(source, index, heads)
        out[real] = flat

    def add_heads(self, source: Tensor, index: Tensor, heads: tuple[int, int, int], total: Tensor) -> None:
        """See `Chains`."""
        flat, real = _rows(source, index, heads)
        total.index_add_(0, real, flat.float())

    def heads_grad(self, grad: Tensor, before: Tensor, heads: tuple[int, int, int], turn: Turn) -> None:
        """See `Chains`."""
        kv, per, width = heads
        cosine, sine = _angles(turn, torch.arange(grad.shape[0], device=grad.device))
        dy = grad.view(-1, kv * per, width).float()
        # The transpose of the rotation: half the signs change places.
        result = dy * cosine - _rotated(dy * sine)
        if turn.norm is not None:
            x = before.reshape(-1, kv * per, width).float()
            root = _root(x, turn.eps).unsqueeze(-1)
            inner, unit = result * turn.norm, x * root
            result = root * (inner - unit * (unit * inner).mean(-1, keepdim=True))
        grad.copy_(result.view(grad.shape[0], -1))

    def softmax(
        self, scores: Tensor, length: int, first_query: int, first_key: int, window: int, scale: float
    ) -> Tensor:
        """See `Chains`."""
        rows, keys = scores.shape[-2:]
        stands = first_query + torch.arange(rows, device=scores.device) % length - first_key
        away = stands.unsqueeze(1) - torch.arange(keys, device=scores.device)
        hidden = (away < 0) | (away >= window) if window else away < 0
        wide = (scores.float() * scale).masked_fill(hidden, float("-inf"))
        return scores.copy_(wide.softmax(-1).nan_to_num(0.0))  # a padding query may see nothing

    def softmax_grad(self, share: Tensor, grad: Tensor, scale: float) -> Tensor:
        """See `Chains`."""
        p, g = share.float(), grad.float()
        return grad.copy_(scale * p * (g - (p * g).sum(-1, keepdim=True)))

    def unpack(self, codes: Tensor, scale: Tensor, out: Tensor) -> None:
        """See `Chains`."""
        unpack_weight(codes, scale, out)


def _root(x: Tensor, eps: float) -> Tensor:
    return torch.rsqrt(x.pow(2).mean(-1) + eps)


def _act(gate: Tensor, kind: Kind) -> Tensor:
    return silu(gate) if kind == "silu" else gelu(gate, approximate="tanh")


def _slope(gate: Tensor, kind: Kind) -> Tensor:
    if kind == "silu":
        half = torch.sigmoid(gate)
        return half * (1 + gate * (1 - half))
    scale, cubic = 0.7978845608028654, 0.044715  # sqrt(2 / pi)
    inner = torch.tanh(scale * (gate + cubic * gate**3))
    return 0.5 * (1 + inner) + 0.5 * gate * (1 - inner**2) * scale * (1 + 3 * cubic * gate**2)


def _angles(turn: Turn, tokens: Tensor) -> tuple[Tensor, Tensor]:
    position = turn.position.index_select(0, tokens)
    return turn.cosine.index_select(0, position).unsqueeze(1), turn.sine.index_select(0, position).unsqueeze(1)


def _rotated(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def _rows(source: Tensor, index: Tensor, heads: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """(N * K, G * L, W) to the rows that are real (n, K * G * W), and the tokens they belong to."""
    kv, per, width = heads
    count, length = index.shape
    flat = source.view(count, kv, per, length, width).permute(0, 3, 1, 2, 4).reshape(count * length, kv * per * width)
    tokens = index.flatten()
    real = tokens >= 0
    return flat[real], tokens[real]
