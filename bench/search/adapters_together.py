"""Several adapters trained in one step: one product with the frozen weights for all their rows, a small one for each.

Each adapter has its own rows, loss and optimiser; an adapter's loss depends on its own numbers alone, so that one
backward pass over the sum of the losses gives each the gradient it would have had by itself (mLoRA, arXiv:2312.02515;
LoRAFusion, arXiv:2510.00206). It pays where small batches leave a processor waiting, on GPUs above all. The layers are
the model's own. `at_once.py` measures it beside training one after another; a search trains one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from allmend.adapters import LoraLinear, LoraSet
from allmend.data import Tokens
from allmend.errors import InputError
from allmend.models.attention import segments_of, use_packed
from allmend.models.loading import Loaded
from allmend.models.support import hidden_states, why_no_packs
from allmend.tuning.loss import LOGIT_ROWS, HeadCrossEntropy
from allmend.tuning.packs import pack


@dataclass
class _Bounds:
    """Where each adapter's tokens begin and end in the pack at hand."""

    ends: list[int] = field(default_factory=list)


class _Several(nn.Module):
    """A frozen layer with the LoRAs of several adapters, each for its own tokens.

    Shapes: x (1, T, in); adapter k has the tokens from `ends[k - 1]` to `ends[k]`.
    """

    def __init__(self, base: nn.Linear, layers: Sequence[LoraLinear], bounds: _Bounds) -> None:
        super().__init__()
        self.base, self.bounds = base, bounds
        self.loras = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        out: Tensor = self.base(x)
        parts, start = [], 0
        for layer, end in zip(self.loras, self.bounds.ends, strict=True):
            assert isinstance(layer, LoraLinear)
            low = linear(x[:, start:end], layer.lora_a.to(x.dtype))
            parts.append(linear(low, (layer.lora_b * layer.scale).to(x.dtype)))
            start = end
        return out + torch.cat(parts, dim=1)


class AtOnce:
    """Puts several adapters into one model; `close` takes them out.

    Args:
        loras: of the same layers, detached from the model; ranks and scales may differ. Dropout is not supported.

    Raises:
        InputError: the model cannot attend over packs, or the adapters differ in their layers.
    """

    def __init__(self, loaded: Loaded, loras: Sequence[LoraSet]) -> None:
        why = why_no_packs(loaded.model)
        names = set(loras[0].layers)
        if any(set(lora.layers) != names for lora in loras):
            why = "the adapters are on different layers"
        if any(lora.config.dropout for lora in loras):
            why = "dropout draws for one adapter at a time"
        if why is not None:
            raise InputError(f"these adapters cannot be trained in one step: {why}")
        self.loaded, self.loras, self._bounds = loaded, list(loras), _Bounds()
        self._bases: dict[str, nn.Linear] = {}
        for name in sorted(names):
            layers = [lora.layers[name] for lora in loras]
            self._bases[name] = layers[0].base
            self._put(name, _Several(layers[0].base, layers, self._bounds))

    def losses(self, batches: Sequence[Sequence[Tokens]]) -> list[Tensor]:
        """The loss per learned token of each adapter on its own rows, from one forward pass.

        `sum(losses).backward()` leaves each adapter the gradient of its own.
        """
        device = self.loaded.device
        packs = [pack(batch, device) for batch in batches]
        ids = torch.cat([one.ids for one in packs], dim=1)
        lengths = [length for one in packs for length in one.segments.lengths]
        ends, places = [], []
        start = 0
        for one in packs:
            places.append(one.predict + start)
            start += one.ids.shape[1]
            ends.append(start)
        self._bounds.ends = ends
        with use_packed(self.loaded.model):
            hidden = hidden_states(self.loaded.model, ids, segments=segments_of(lengths, device))[0]
        weight = self.loaded.model.get_output_embeddings().weight
        found = []
        for one, at in zip(packs, places, strict=True):
            total: Tensor = HeadCrossEntropy.apply(  # type: ignore[no-untyped-call]
                hidden.index_select(0, at), weight, one.targets, LOGIT_ROWS
            )
            found.append(total / max(1, one.targets.numel()))
        return found

    def close(self) -> None:
        """The model is as it was."""
        for name, base in self._bases.items():
            self._put(name, base)
        self._bases.clear()

    def _put(self, name: str, module: nn.Module) -> None:
        parent, _, leaf = name.rpartition(".")
        setattr(self.loaded.model.get_submodule(parent), leaf, module)
