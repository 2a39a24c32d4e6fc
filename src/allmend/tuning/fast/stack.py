"""All decoder layers as one autograd function: from token ids to hidden states where a token is learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from allmend.models.attention import Segments
from allmend.tuning.fast.blocks import Blocks, blocks_of
from allmend.tuning.fast.chains import Chains, Turn
from allmend.tuning.fast.layer import Kept, Layer

Angles = Callable[[int], tuple[Tensor, Tensor]]
"""From a number of positions to cosine and sine, each (positions, head width) fp32."""


@dataclass
class Stack:
    """A decoder taken apart."""

    chains: Chains
    embed: Callable[[Tensor], Tensor]
    """(1, T) ids to (1, T, D)."""
    layers: list[Layer]
    norm: Tensor
    eps: float
    angles: dict[str, Angles]
    top_where_learned: bool = True
    """Whether the last layer is worked out only at positions whose output is used."""
    stop_at_lowest: bool = True
    """Whether backward ends at the lowest layer with a LoRA."""
    recompute: bool = False
    """Whether only each layer's input is kept and the rest made again in the backward pass."""
    lowest: int = field(init=False)

    def __post_init__(self) -> None:
        self.lowest = next(
            (place for place, layer in enumerate(self.layers) if any(one.rank for one in layer.products)), 0
        )

    def parameters(self) -> list[nn.Parameter]:
        """A and B of every LoRA, in the order of the gradients."""
        return [weight for layer in self.layers for one in layer.products for weight in one.parameters]

    def refresh(self) -> None:
        """Bring the LoRAs' new values in; once an optimiser step."""
        for layer in self.layers:
            for one in layer.products:
                one.refresh()

    def release(self) -> None:
        """Give the model's layers memory of their own again."""
        for layer in self.layers:
            for one in layer.products:
                one.release()

    def hidden(self, ids: Tensor, segments: Segments, predict: Tensor, drop: bool = False) -> Tensor:
        """(1, T) ids to hidden states (P, D) after the final norm, at the places `predict` (P,)."""
        result: Tensor = _Pass.apply(  # type: ignore[no-untyped-call]
            self, ids, segments, predict, torch.is_grad_enabled(), drop, *self.parameters()
        )
        return result

    def _turns(self, segments: Segments) -> dict[tuple[str, int], tuple[Turn, Turn]]:
        position = segments.positions[0].contiguous()
        most = int(position.max()) + 1
        tables = {name: angles(most) for name, angles in self.angles.items()}
        found = {}
        for place, layer in enumerate(self.layers):
            cosine, sine = tables[layer.rotary]
            pair = tuple(Turn(cosine, sine, position, norm, layer.eps) for norm in (layer.norm_query, layer.norm_key))
            found[layer.rotary, place] = (pair[0], pair[1])
        return found

    def run(
        self, ids: Tensor, segments: Segments, predict: Tensor, keep: bool, drop: bool = False
    ) -> tuple[Tensor, Record]:
        """(1, T) ids to hidden states (P, D) after the final norm, at the places `predict` (P,), and what `back` needs.

        Args:
            keep: keep that; without it the record is empty.
            drop: put dropout to work.
        """
        x = self.embed(ids)[0].contiguous()
        width = x.shape[1]
        turns = self._turns(segments)
        longest = max(segments.lengths) + segments.prefix
        windows = {layer.heads.window for layer in self.layers}
        # A window that no row reaches is none, and shares the plan of those without.
        plans = {window: blocks_of(segments, window if window and window < longest else 0) for window in windows}
        room = self.layers[0].qkv.room(x.shape[0])
        _, _, root = self.chains.add_norm(x, None, None, self.layers[0].norm_first, room[:, :width], self.eps)
        record = Record(turns=turns, plans=plans, tokens=x.shape[0], predict=predict, drop=drop)
        for place, layer in enumerate(self.layers):
            last = place == len(self.layers) - 1
            after = self.norm if last else self.layers[place + 1].norm_first
            next_room = None if last else self.layers[place + 1].qkv.room(x.shape[0])
            assert root is not None
            wanted = keep and (place >= self.lowest or not self.stop_at_lowest)
            begin = Beginning(x, _random_state(x.device) if drop else None) if wanted and self.recompute else None
            x, room, root, kept = layer.forward(
                x,
                room,
                root,
                plans[layer.heads.window],
                turns[layer.rotary, place],
                after,
                next_room,
                predict if last and self.top_where_learned else None,
                wanted and begin is None,
                drop,
            )
            record.layers.append(begin or kept)
        record.x, record.root = x, root
        return (room if self.top_where_learned else room.index_select(0, predict)), record

    def back(self, record: Record, dhidden: Tensor) -> list[Tensor | None]:
        """Gradients of `parameters`, in order, from that of the hidden states (P, D); None where none is learned."""
        assert record.x is not None and record.root is not None
        if not self.top_where_learned:
            dhidden = dhidden.new_zeros(record.x.shape).index_add_(0, record.predict, dhidden)
        dx: Tensor | None = self.chains.norm_grad(
            dhidden.contiguous(), record.x, record.root, self.norm, None, torch.empty_like(record.x)
        )
        gradients: list[list[Tensor | None]] = []
        end = self.lowest if self.stop_at_lowest else 0
        for place in reversed(range(len(self.layers))):
            layer = self.layers[place]
            if place < end:
                gradients.append([None for one in layer.products for _ in one.parameters])
                continue
            kept = record.layers.pop()
            while kept is None:
                kept = record.layers.pop()
            if isinstance(kept, Beginning):
                kept = self._again(record, place, kept)
            assert dx is not None
            needs = place > end or not self.stop_at_lowest
            dx, found = layer.backward(
                kept, dx, record.plans[layer.heads.window], record.turns[layer.rotary, place], needs
            )
            gradients.append(list(found))
        return [one for found in reversed(gradients) for one in found]

    def _again(self, record: Record, place: int, begin: Beginning) -> Kept:
        """A layer's forward pass once more, from its input, with the same dropout."""
        layer, width = self.layers[place], begin.x.shape[1]
        last = place == len(self.layers) - 1
        room = layer.qkv.room(begin.x.shape[0])
        _, _, root = self.chains.add_norm(begin.x, None, None, layer.norm_first, room[:, :width], self.eps)
        assert root is not None
        now = _random_state(begin.x.device) if begin.random is not None else None
        if begin.random is not None:
            _set_random_state(begin.x.device, begin.random)
        select = record.predict if last and self.top_where_learned else None
        _, _, _, kept = layer.forward(
            begin.x, room, root, record.plans[layer.heads.window], record.turns[layer.rotary, place], self.norm, None,
            select, True, record.drop,
        )  # fmt: skip
        if now is not None:
            _set_random_state(begin.x.device, now)
        assert kept is not None
        return kept


def _random_state(device: torch.device) -> Tensor:
    if device.type == "mps":
        return torch.mps.get_rng_state()
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)


@dataclass(frozen=True)
class Beginning:
    """Where a layer's forward pass can be begun again: its input, and where the random numbers stood."""

    x: Tensor
    random: Tensor | None


@dataclass
class Record:
    """What a forward pass leaves for the backward pass."""

    turns: dict[tuple[str, int], tuple[Turn, Turn]]
    plans: dict[int, Blocks]
    tokens: int
    predict: Tensor
    drop: bool = False
    layers: list[Kept | Beginning | None] = field(default_factory=list)
    x: Tensor | None = None
    root: Tensor | None = None


class _Pass(Function):
    @staticmethod
    def forward(
        ctx: Any,
        stack: Stack,
        ids: Tensor,
        segments: Segments,
        predict: Tensor,
        keep: bool,
        drop: bool,
        *weights: Tensor,
    ) -> Tensor:
        hidden, record = stack.run(ids, segments, predict, keep, drop)
        ctx.stack, ctx.record = stack, record if keep else None
        return hidden

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> tuple[Tensor | None, ...]:
        record, ctx.record = ctx.record, None
        return (None, None, None, None, None, None, *ctx.stack.back(record, outer[0]))
