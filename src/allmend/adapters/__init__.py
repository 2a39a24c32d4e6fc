"""Adapters: the LoRA layer, putting it into a model and taking it out, and PEFT's file format.

attach(model, LoraConfig(...))    puts fresh LoRA layers in; returns a LoraSet of their parameters
write(folder, lora, ...)          writes them as PEFT does
read(folder)                      AdapterWeights: configuration and tensors by module, checked
attach_weights(model, weights)    puts a read adapter in; raises when it belongs to another base
"""

from __future__ import annotations

from allmend.adapters.attach import LoraSet, attach, attach_weights, detach
from allmend.adapters.config import LoraConfig
from allmend.adapters.layer import LoraLinear
from allmend.adapters.peft_format import AdapterWeights, read, write

__all__ = [
    "AdapterWeights",
    "LoraConfig",
    "LoraLinear",
    "LoraSet",
    "attach",
    "attach_weights",
    "detach",
    "read",
    "write",
]
