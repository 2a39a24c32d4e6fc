"""How a training step is worked out: the tricks that are on, those that this model allows, and why not the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from allmend.adapters import LoraSet
from allmend.data import Tokens
from allmend.models.loading import Loaded
from allmend.models.support import why_no_packs
from allmend.nouns.choice import Choice
from allmend.tuning.fast.recognise import Unlike, chains_for, stack_of
from allmend.tuning.fast.stack import Stack
from allmend.tuning.loss import lean_loss, loss_of, mean_loss, row_by_row_loss, whole_loss
from allmend.tuning.packs import Pack, packs
from allmend.tuning.tricks import Tricks


@dataclass
class Passes:
    """Forward and backward passes of one model with one LoRA; `close` gives the model back as it was."""

    loaded: Loaded
    lora: LoraSet
    tricks: Tricks
    pack_tokens: int
    stack: Stack | None = None
    choices: list[Choice] = field(default_factory=list)
    made: dict[tuple[int, ...], list[Pack]] | None = None
    """Packs by the identity of their rows, where several trainings go over the same ones; None keeps none."""

    @classmethod
    def of(cls, loaded: Loaded, lora: LoraSet, tricks: Tricks, pack_tokens: int) -> Passes:
        """Take what the model allows; each choice has its reason."""
        passes = cls(loaded, lora, tricks, pack_tokens)
        why_not = why_no_packs(loaded.model) if tricks.pack else "turned off"
        passes.choose("packing", why_not is None, why_not or "rows laid end to end give the same as apart; tried")
        if why_not is None:
            passes._take_apart()
        else:
            passes.choose("layers", "the model's own", f"no packing: {why_not}")
        if tricks.off:
            passes.choose("tricks_off", list(tricks.off), "asked for")
        return passes

    def choose(self, name: str, value: object, reason: str) -> None:
        """Keep a choice."""
        self.choices.append(Choice(name=name, value=value, reason=reason))

    def _take_apart(self) -> None:
        tricks = self.tricks
        if not tricks.lean_layers:
            self.choose("layers", "the model's own", "turned off")
            return
        chains, why = chains_for(self.loaded.model, tricks.native_chains)
        try:
            self.stack = stack_of(
                self.loaded.model,
                self.lora,
                chains,
                top_where_learned=tricks.top_layer_where_learned,
                stop_at_lowest=tricks.stop_at_lowest,
            )
        except Unlike as reason:
            self.choose("layers", "the model's own", str(reason))
            return
        self.choose("layers", "lean", "tried: they give what the model's own give, with less work and memory")
        self.choose("chains", getattr(chains, "name", "torch"), why)

    def packs(self, rows: Sequence[Tokens]) -> list[Pack]:
        """Rows as packs for these passes."""
        if self.made is None:
            return self._packs(rows)
        key = tuple(map(id, rows))
        if key not in self.made:
            self.made[key] = self._packs(rows)
        return self.made[key]

    def _packs(self, rows: Sequence[Tokens]) -> list[Pack]:
        limit = self.pack_tokens if self.tricks.pack else 1
        return packs(rows, limit, self.loaded.device, self.tricks.share_prefix and self.tricks.pack)

    def loss(self, pack: Pack) -> Tensor:
        """Sum of cross-entropies over the learned tokens of a pack."""
        model = self.loaded.model
        if self.stack is not None:
            return lean_loss(model, self.stack, pack, self.tricks.label_head)
        if not self.tricks.label_head:
            return whole_loss(model, pack)
        return loss_of(model, pack) if self.tricks.pack else row_by_row_loss(model, pack)

    def mean_loss(self, packs: list[Pack]) -> float:
        """Loss per learned token, in evaluation mode."""
        return mean_loss(self.loaded.model, packs, self.loss)

    def stepped(self) -> None:
        """The LoRA's weights have changed."""
        if self.stack is not None:
            self.stack.refresh()

    def close(self) -> None:
        """Give the model its own memory back."""
        if self.stack is not None:
            self.stack.release()
            self.stack = None
