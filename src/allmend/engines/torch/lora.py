"""Adapters on a packed step: the base's matmul runs once for all tokens, then a small one for each adapter.

The base is not changed or copied. A hook on each module that some adapter targets adds `scale * B (A x)` to the
rows of the sequences that use it; without an active route a hook does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from allmend.errors import InputError, nearest

if TYPE_CHECKING:
    from allmend.adapters import AdapterWeights


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter's matrices by module name; `B` carries the scaling (alpha over rank) already."""

    identity: str
    """Names what it computes (`AdapterWeights.identity`): what is remembered with one is taken for equals alone."""
    modules: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    """Module name of the base: (A [rank, inputs], B [outputs, rank])."""
    prepared: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What a runner made of it for its own use."""

    @property
    def nbytes(self) -> int:
        """Bytes of its matrices, and about as many for what a runner made of them."""
        return 2 * sum(a.nbytes + b.nbytes for a, b in self.modules.values())


Uses = tuple[tuple[Lora, float], ...]
"""What is applied to a sequence: adapters and how strongly each acts."""

Routes = list[tuple[int, int, Uses]]
"""(first row, end row, adapters) of a packed row of tokens; rows without adapters are left out."""


class _Active(threading.local):
    routes: Routes | None = None
    rows: int = 0
    """Tokens of the step."""


ACTIVE = _Active()
"""The routes of the step that runs on this thread."""


class LoraHooks:
    """Puts hooks on a model's modules, as adapters need them, and takes them off again."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._modules = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
        self._handles: dict[str, torch.utils.hooks.RemovableHandle] = {}
        parameter = next(model.parameters())
        self._dtype, self._device = parameter.dtype, parameter.device

    def check(self, name: str, lora: Lora) -> Lora:
        """`lora` in the base's precision; raises `InputError` where it does not fit the base."""
        if not lora.modules:
            raise InputError("the adapter has no LoRA matrices", where=f"adapter {name!r}")
        ready = {}
        for target, (a, b) in lora.modules.items():
            module = self._modules.get(target)
            if module is None:
                raise InputError(
                    f"the adapter changes {target!r}, which the base model does not have as a linear layer",
                    where=f"adapter {name!r}",
                    hint=nearest(target, self._modules, 1) or "It was made for another base model.",
                )
            if target.endswith("lm_head"):
                raise InputError("adapters on the output layer are not served", where=f"adapter {name!r}")
            rank = a.shape[0]
            wanted = ((rank, module.in_features), (module.out_features, rank))
            if (tuple(a.shape), tuple(b.shape)) != wanted:
                raise InputError(
                    f"{target}: matrices of {tuple(a.shape)} and {tuple(b.shape)} do not fit a layer of "
                    f"{module.in_features} inputs and {module.out_features} outputs",
                    where=f"adapter {name!r}",
                    hint="It was made for another base model.",
                )
            if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
                raise InputError(f"{target} holds numbers that are not finite", where=f"adapter {name!r}")
            ready[target] = (self._ready(a), self._ready(b))
        return Lora(lora.identity, ready)

    def cover(self, lora: Lora) -> None:
        """Hook every module that `lora` changes; to be called between steps."""
        for name in lora.modules:
            if name not in self._handles:
                self._handles[name] = self._modules[name].register_forward_hook(_hook_for(name))

    def remove(self) -> None:
        """Take all hooks off: the model is as it was."""
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()

    def _ready(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to(self._device, self._dtype).contiguous()


def _hook_for(name: str):  # type: ignore[no-untyped-def]
    def add(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
        routes = ACTIVE.routes
        if not routes:
            return None
        # Some architectures drop the first dimension before a layer: [1, tokens, inputs] or [tokens, inputs].
        rows, answer = inputs[0].reshape(-1, inputs[0].shape[-1]), output.reshape(-1, output.shape[-1])
        if len(rows) != ACTIVE.rows:
            raise InputError(f"{name} does not see the step's tokens one by one, so no adapter can change it here")
        for first, end, uses in routes:
            for lora, scale in uses:
                pair = lora.modules.get(name)
                if pair is not None:
                    a, b = pair
                    narrow = rows[first:end] @ a.T
                    answer[first:end] += (narrow * scale if scale != 1.0 else narrow) @ b.T
        return answer.view(output.shape)

    return add


def from_weights(weights: AdapterWeights) -> Lora:
    """An adapter as it was read from disk, with each module's scaling taken into its `B`.

    Raises:
        InputError: it is a DoRA, whose effect is no sum of the base's and its own.
    """
    if weights.config.dora:
        raise InputError(
            "a DoRA scales the base's own outputs, so it cannot be served beside other adapters",
            where=str(weights.folder),
            hint="Merge it into the model's weights and serve those, or tune a plain LoRA.",
        )
    modules = {}
    for name, (a, b) in weights.modules.items():
        modules[name] = (a, b * weights.config_of(name).scale)
    return Lora(weights.identity, modules)
