"""One decoder layer, forward and backward, written out.

    a = attention(norm1(x));   h = x + [post norm](o(a))
    m = down(act(gate(n)) * up(n)), n = norm2(h);   y = h + [post norm](m)

The two post norms are there in families that have them (Gemma 3). What backward needs and what is cheap to make
again (norms' outputs in heads, rotated heads, the activated product) is not kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from allmend.tuning.fast.attend import Heads, attend, attend_back
from allmend.tuning.fast.blocks import Blocks
from allmend.tuning.fast.bordered import Bordered
from allmend.tuning.fast.chains import Chains, Kind, Turn


@dataclass
class Kept:
    """What a layer's backward pass needs."""

    x: Tensor
    first: Tensor
    root_first: Tensor
    qkv: Tensor
    shares: list[Tensor | None]
    mixed: Tensor
    attended: Tensor
    root_attended: Tensor | None
    h: Tensor
    second: Tensor
    root_second: Tensor
    both: Tensor
    low_down: Tensor
    fed: Tensor
    root_fed: Tensor | None
    select: Tensor | None
    drops: tuple[Tensor | None, ...]
    """Dropout's masks of the four products."""


@dataclass
class Layer:
    """Weights and shapes of one decoder layer; norm weights are (D,) fp32 with any offset already added."""

    chains: Chains
    heads: Heads
    kind: Kind
    eps: float
    norm_first: Tensor
    norm_second: Tensor
    norm_attended: Tensor | None
    norm_fed: Tensor | None
    norm_query: Tensor | None
    norm_key: Tensor | None
    rotary: str
    """Which of the stack's tables of angles it turns heads by."""
    qkv: Bordered
    out: Bordered
    gate_up: Bordered
    down: Bordered

    @property
    def products(self) -> tuple[Bordered, Bordered, Bordered, Bordered]:
        """In the order in which `backward` returns gradients."""
        return self.qkv, self.out, self.gate_up, self.down

    def forward(
        self,
        x: Tensor,
        first: Tensor,
        root_first: Tensor,
        blocks: Blocks,
        turns: tuple[Turn, Turn],
        next_norm: Tensor,
        next_room: Tensor | None,
        select: Tensor | None,
        keep: bool,
        drop: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Kept | None]:
        """Run the layer.

        Args:
            x: (T, D) residual stream; first: (T, D + r) with `norm1(x)` in its first columns.
            next_room: where the next norm of the output goes; None makes room for the selected rows alone.
            select: the rows whose output is wanted, of the last layer; None for all.
            drop: whether the LoRAs' dropout is at work.

        Returns:
            The residual stream, the next norm's output, its inverse roots, and what backward needs.
        """
        tokens, width = x.shape
        learned = tokens if select is None else select.shape[0]
        drops = tuple(one.drawn(tokens if one is self.qkv else learned) if drop else None for one in self.products)
        qkv = self.qkv.forward(first, drops[0])
        mixed = self.out.room(tokens)
        shares = attend(self.chains, qkv, blocks, self.heads, turns, mixed[:, : self.out.width], keep)
        residual = x
        if select is not None:
            mixed, residual = mixed.index_select(0, select), x.index_select(0, select)
        rows = residual.shape[0]
        attended = self.out.forward(mixed, drops[1])
        second = self.gate_up.room(rows)
        h, root_attended, root_second = self.chains.add_norm(
            residual, attended, self.norm_attended, self.norm_second, second[:, :width], self.eps
        )
        both = self.gate_up.forward(second, drops[2])
        active = self.down.room(rows)
        self.chains.glu(both, active[:, : self.down.width], self.kind)
        fed = self.down.forward(active, drops[3])
        room = next_room if next_room is not None else x.new_empty(rows, width)
        y, root_fed, root_next = self.chains.add_norm(h, fed, self.norm_fed, next_norm, room[:, :width], self.eps)
        assert root_second is not None and root_next is not None
        kept = None
        if keep:
            low = active[:, self.down.width :].clone()
            kept = Kept(
                x, first, root_first, qkv, shares, mixed, attended, root_attended, h, second, root_second, both, low,
                fed, root_fed, select, drops,
            )  # fmt: skip
        return y, room, root_next, kept

    def backward(
        self, kept: Kept, dy: Tensor, blocks: Blocks, turns: tuple[Turn, Turn], needs_input: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """From the gradient of the output's residual stream to that of the input's, and those of the LoRAs."""
        chains, width = self.chains, dy.shape[1]
        rows, tokens = dy.shape[0], kept.x.shape[0]

        dfed = self.down.room_back(rows)
        self._through(self.norm_fed, dy, kept.fed, kept.root_fed, dfed[:, :width])
        dactive = self.down.back(dfed, kept.fed, kept.drops[3])
        dboth = self.gate_up.room_back(rows)
        active = chains.glu_grad(kept.both, dactive, dboth[:, : self.gate_up.out], self.kind)
        of_down = self.down.gradients(active, kept.low_down, dfed, kept.drops[3])
        del active, dactive, dfed
        dsecond = self.gate_up.back(dboth, kept.both, kept.drops[2])
        of_gate_up = self.gate_up.gradients(kept.second[:, :width], kept.second[:, width:], dboth, kept.drops[2])
        del dboth
        dh = chains.norm_grad(dsecond, kept.h, kept.root_second, self.norm_second, dy, torch.empty_like(dy))

        dattended = self.out.room_back(rows)
        self._through(self.norm_attended, dh, kept.attended, kept.root_attended, dattended[:, :width])
        dmixed = self.out.back(dattended, kept.attended, kept.drops[1])
        inner = self.out.width
        of_out = self.out.gradients(kept.mixed[:, :inner], kept.mixed[:, inner:], dattended, kept.drops[1])
        if kept.select is not None:
            dmixed = dmixed.new_zeros(tokens, inner).index_copy_(0, kept.select, dmixed)
            dh = dh.new_zeros(tokens, width).index_copy_(0, kept.select, dh)
        dqkv = self.qkv.room_back(tokens)
        attend_back(chains, kept.qkv, blocks, self.heads, turns, kept.shares, dmixed, dqkv[:, : self.qkv.out])
        dx = None
        if needs_input:
            dfirst = self.qkv.back(dqkv, kept.qkv, kept.drops[0])
            dx = chains.norm_grad(dfirst, kept.x, kept.root_first, self.norm_first, dh, torch.empty_like(dh))
        else:
            self.qkv.back_low(dqkv, kept.qkv)
        of_qkv = self.qkv.gradients(kept.first[:, :width], kept.first[:, width:], dqkv, kept.drops[0])
        return dx, of_qkv + of_out + of_gate_up + of_down

    def _through(self, norm: Tensor | None, dy: Tensor, x: Tensor, root: Tensor | None, out: Tensor) -> None:
        """The gradient behind a post norm, or the same where there is none."""
        if norm is None or root is None:
            out.copy_(dy)
        else:
            self.chains.norm_grad(dy, x, root, norm, None, out)
