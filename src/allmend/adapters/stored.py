"""A LoRA as numbers alone, without the model it belongs to: what a checkpoint holds, ready to be written."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from allmend.adapters.attach import LoraSet
from allmend.adapters.config import LoraConfig
from allmend.adapters.layer import LoraLinear


@dataclass(frozen=True)
class _Stored(LoraSet):
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def state(self, copy: bool = True) -> dict[str, torch.Tensor]:
        """The tensors."""
        return dict(self.tensors)


def stored(config: LoraConfig, tensors: dict[str, torch.Tensor]) -> LoraSet:
    """A LoRA that `peft_format.write` takes; `tensors` are those of `LoraSet.state`. It cannot be trained."""
    names = {key.rsplit(".", 1)[0] for key in tensors}
    layers: dict[str, LoraLinear] = dict.fromkeys(sorted(names))  # type: ignore[assignment]
    return _Stored(config, layers, tensors)
