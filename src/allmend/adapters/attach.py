"""Putting LoRA layers into a model, and taking them out again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import PreTrainedModel

from allmend.adapters.config import LoraConfig
from allmend.adapters.layer import LoraLinear
from allmend.errors import InputError, UsageError, nearest

if TYPE_CHECKING:
    from allmend.adapters.peft_format import AdapterWeights


@dataclass(frozen=True)
class LoraSet:
    """The LoRA layers of one adapter inside a model, by module name."""

    config: LoraConfig
    layers: dict[str, LoraLinear]

    def parameters(self) -> list[nn.Parameter]:
        """A and B of every layer, in a stable order."""
        return [
            weight for name in sorted(self.layers) for weight in self.layers[name].parameters() if weight.requires_grad
        ]

    def state(self, copy: bool = True) -> dict[str, torch.Tensor]:
        """The tensors, as `MODULE.lora_A` (rank, in) and `MODULE.lora_B` (out, rank), fp32 on the CPU; with DoRA also
        `MODULE.lora_magnitude_vector` (out,). `copy=False` may give the ones that training goes on with.
        """
        tensors = {}
        for name, layer in sorted(self.layers.items()):
            parts = {"lora_A": layer.lora_a, "lora_B": layer.lora_b, "lora_magnitude_vector": layer.magnitude}
            for part, weight in parts.items():
                if weight is not None:
                    tensors[f"{name}.{part}"] = weight.detach().to("cpu", torch.float32, copy=copy)
        return tensors

    @torch.no_grad()
    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put tensors from `state` back."""
        for name, layer in self.layers.items():
            layer.lora_a.copy_(tensors[f"{name}.lora_A"])
            layer.lora_b.copy_(tensors[f"{name}.lora_B"])
            if layer.magnitude is not None:
                layer.magnitude.copy_(tensors[f"{name}.lora_magnitude_vector"])

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base alone, inside the block."""
        for layer in self.layers.values():
            layer.enabled = False
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.enabled = True


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Every linear layer but the output head, by module name."""
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    return {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head
    }


def attach(model: nn.Module, config: LoraConfig, seed: int = 0) -> LoraSet:
    """Put fresh LoRA layers into the model's linear layers.

    The same seed gives the same layers, whatever was drawn before.

    Raises:
        UsageError: a target names no linear layer.
    """
    layers = linear_layers(model)
    chosen = _chosen(layers, config.targets)
    generator = torch.Generator().manual_seed(seed)
    made = {name: LoraLinear(layers[name], config, generator) for name in chosen}
    for name, layer in made.items():
        _replace(model, name, layer)
    return LoraSet(config, made)


def attach_weights(model: nn.Module, weights: AdapterWeights) -> LoraSet:
    """Put an adapter that was read from disk into the model it belongs to.

    Raises:
        InputError: it names layers the model does not have, or of other shapes: it belongs to another base.
    """
    layers = linear_layers(model)
    problems = misfits(layers, weights)
    if problems:
        raise InputError(
            f"this adapter does not fit the model: {problems[0]}"
            + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""),
            where=str(weights.folder),
            hint=f"It was made for {weights.base or 'another model'}.",
        )
    made = {}
    for name in sorted(weights.modules):
        layer = LoraLinear(layers[name], weights.config_of(name))
        a, b = weights.modules[name]
        with torch.no_grad():
            layer.lora_a.copy_(a)
            layer.lora_b.copy_(b)
            if layer.magnitude is not None:
                layer.magnitude.copy_(weights.magnitudes[name])
        made[name] = layer
        _replace(model, name, layer)
    return LoraSet(weights.config, made)


def misfits(layers: dict[str, nn.Linear], weights: AdapterWeights) -> list[str]:
    """Why an adapter cannot go onto these layers; empty when it can."""
    problems = []
    for name, (a, b) in sorted(weights.modules.items()):
        layer = layers.get(name)
        if layer is None:
            problems.append(f"the model has no linear layer {name}")
        elif (a.shape[1], b.shape[0]) != (layer.in_features, layer.out_features):
            have, want = (b.shape[0], a.shape[1]), (layer.out_features, layer.in_features)
            problems.append(f"{name} is {have[0]}x{have[1]} in the adapter and {want[0]}x{want[1]} in the model")
        elif name in weights.magnitudes and weights.magnitudes[name].shape[0] != layer.out_features:
            problems.append(f"{name} has {weights.magnitudes[name].shape[0]} magnitudes and {layer.out_features} rows")
    return problems


def detach(model: nn.Module, lora: LoraSet) -> None:
    """Take the layers out again; the model is as it was."""
    for name, layer in lora.layers.items():
        _replace(model, name, layer.base)


def _chosen(layers: dict[str, nn.Linear], targets: tuple[str, ...]) -> list[str]:
    if not layers:
        raise InputError("this model has no linear layers that a LoRA could go onto")
    if not targets:
        return sorted(layers)
    known = {name.rsplit(".", 1)[-1] for name in layers}
    for target in targets:
        if target not in known and target not in layers:
            raise UsageError(f"no linear layer is called {target!r}", where="--targets", hint=nearest(target, known))
    return sorted(name for name in layers if name in targets or name.rsplit(".", 1)[-1] in targets)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
