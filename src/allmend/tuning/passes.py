"""How a training step is worked out: the tricks that are on, those that this model allows, and why not the others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from torch import Tensor

from allmend.adapters import LoraSet
from allmend.data import Tokens
from allmend.models.attention import use_packed
from allmend.models.loading import Loaded
from allmend.models.norms import Unlike
from allmend.models.support import attends_over_packs, has_plain_head, why_no_packs
from allmend.nouns.choice import Choice
from allmend.tuning import together
from allmend.tuning.divided import Divided, DividedModel
from allmend.tuning.fast.recognise import chains_for, stack_of
from allmend.tuning.fast.stack import Stack
from allmend.tuning.loss import lean_loss, loss_of, mean_loss, row_by_row_loss, whole_loss
from allmend.tuning.packs import Pack, packs
from allmend.tuning.tricks import Tricks
from allmend.tuning.whole import WholeModel

Learned = LoraSet | WholeModel
"""What is learned: an adapter, or all weights."""


@dataclass
class Passes:
    """Forward and backward passes of one model with what it learns; `close` gives the model back as it was."""

    loaded: Loaded
    lora: Learned
    tricks: Tricks
    pack_tokens: int
    stack: Stack | None = None
    choices: list[Choice] = field(default_factory=list)
    recomputes: bool = False
    """Whether activations are made again in the backward pass."""
    _while_recomputing: ExitStack = field(default_factory=ExitStack)
    made: dict[tuple[int, ...], list[Pack]] | None = None
    """Packs by the identity of their rows, where several trainings go over the same ones; None keeps none."""

    divided: Divided | None = None
    """The model's weights, where several processes divide them."""

    @classmethod
    def of(
        cls, loaded: Loaded, lora: Learned, tricks: Tricks, pack_tokens: int, divided: Divided | None = None
    ) -> Passes:
        """Take what the model allows; each choice has its reason."""
        if isinstance(lora, DividedModel):
            divided = lora.divided
        passes = cls(loaded, lora, tricks, pack_tokens, divided=divided)
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
        if isinstance(self.lora, WholeModel):
            self.choose("layers", "the model's own", "all weights are learned, which the lean layers hold frozen")
            return
        if self.divided is not None:
            self.choose("layers", "the model's own", "weights are divided, which the lean layers hold in one piece")
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

    def recompute(self, reason: str) -> None:
        """Keep each layer's input only and make the rest again in the backward pass: less memory, more time."""
        self.recomputes = True
        if self.stack is not None:
            self.stack.recompute = True
        else:
            self.loaded.model.gradient_checkpointing_enable({"use_reentrant": False})
            has_plain_head(self.loaded.model)  # tried now: its trial is no pack
            if attends_over_packs(self.loaded.model):
                # What is made again in the backward pass must attend as the forward pass did.
                self._while_recomputing.enter_context(use_packed(self.loaded.model))
        self.choose("activations", "made again in the backward pass", reason)

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

    def fillers(self, own: int, rows: Sequence[Tokens]) -> list[Pack]:
        """Packs that learn nothing, so that every process makes as many passes where weights are divided.

        Args:
            own: packs of this process.
            rows: of all processes, at least one.
        """
        if self.divided is None:
            return []
        missing = together.most(own) - own
        return self.packs([min(rows, key=len)]) * missing

    def loss(self, pack: Pack) -> Tensor:
        """Sum of cross-entropies over the learned tokens of a pack."""
        return self._loss(pack) if self.divided is None else self.divided(self._loss, pack)

    def _loss(self, pack: Pack) -> Tensor:
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
        """What is learned has changed."""
        if isinstance(self.lora, WholeModel):
            self.lora.refresh()
        if self.stack is not None:
            self.stack.refresh()

    def close(self) -> None:
        """Give the model its own memory back."""
        self._while_recomputing.close()
        if self.recomputes and self.stack is None:
            self.loaded.model.gradient_checkpointing_disable()
        if self.stack is not None:
            self.stack.release()
            self.stack = None
