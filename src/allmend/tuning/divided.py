"""A model whose weights several processes divide among them: torch's FSDP, by `fully_shard`.

Each process keeps its share of every weight, and with it of the gradient and the moments. A decoder layer's weights
are gathered while that layer works, forward and backward, and dropped after it; embeddings and head are gathered
around the whole pass (Zhao et al., arXiv:2304.11277; stage 3 of Rajbhandari et al., arXiv:1910.02054).

Gathering is joint work: every process has to make the same passes in the same order. So the loss is worked out inside
this module's forward pass, where the head that it multiplies with in pieces is whole, and whoever has fewer packs
makes up for it with packs that count nothing (`Passes.fillers`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from allmend.models.support import has_plain_head, why_no_packs
from allmend.tuning.whole import WholeModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from allmend.tuning.packs import Pack


class Divided(nn.Module):
    """Runs work on a model while its weights are there. Made by `divide`."""

    def __init__(self, model: PreTrainedModel, plain: PreTrainedModel) -> None:
        super().__init__()
        self.model, self._plain = model, [plain]

    def forward(self, work: Callable[[Pack], Tensor], pack: Pack) -> Tensor:
        """Do `work`, with embeddings and head in one piece."""
        return work(pack)

    def shares(self) -> dict[str, DTensor]:
        """This process's share of each weight, by the model's own names; tied weights appear once."""
        return {name: cast(DTensor, weight) for name, weight in self.model.named_parameters()}

    @torch.no_grad()
    def gathered(self, dtype: torch.dtype) -> PreTrainedModel:
        """The model as it was, in one piece and frozen, with the weights of now; in every process.

        LoRAs have to be taken out before.
        """
        plain = self._plain[0]
        for name, share in self.shares().items():
            weight = nn.Parameter(share.full_tensor().to(dtype), requires_grad=False)
            old = plain.get_parameter(name)
            for module in plain.modules():
                for own, one in list(module.named_parameters(recurse=False)):
                    if one is old:
                        setattr(module, own, weight)
        return plain


def divide(model: PreTrainedModel, dtype: torch.dtype, learned: bool) -> Divided:
    """Divide `model` among the processes; what it is made of changes in place.

    Args:
        dtype: what layers compute in.
        learned: all weights are learned: shares are kept in fp32, and gradients are added up in it. Otherwise the
            model is frozen, and LoRAs that are attached afterwards stay whole in every process.
    """
    # Both are tried by passes through the model, and remembered.
    why_no_packs(model)
    has_plain_head(model)
    weights = {
        id(weight): nn.Parameter(torch.empty_like(weight, device="meta"), False) for weight in model.parameters()
    }
    whole = Divided(model, copy.deepcopy(model, cast(dict[int, Any], weights)))
    policy = MixedPrecisionPolicy(
        param_dtype=dtype if learned else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in kinds]
    for part in (*layers, whole):
        for weight in part.parameters():
            if learned and not isinstance(weight, DTensor):
                weight.requires_grad_(True)
                weight.data = weight.data.float()
        fully_shard(part, mp_policy=policy, reshard_after_forward=True)
        # Sums, as everywhere here: the loss is divided by the tokens of all processes already.
        cast(FSDPModule, part).set_gradient_divide_factor(1.0)
        cast(FSDPModule, part).set_force_sum_reduction_for_comms(True)
    return whole


class DividedModel(WholeModel):
    """All weights of a divided model as what is learned. States are of this process's shares alone."""

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        self.model, self.dtype = model, dtype
        self.divided = divide(model, dtype, learned=True)
        self._shares = dict(sorted(self.divided.shares().items()))
        # Over the same memory: an optimiser step on these is one on the shares.
        self.masters = {name: nn.Parameter(share.to_local().detach()) for name, share in self._shares.items()}

    def take_gradients(self) -> None:
        """Bring the gradients, which FSDP has added up over all processes, to `parameters`."""
        for name, share in self._shares.items():
            self.masters[name].grad = None if share.grad is None else cast(DTensor, share.grad).to_local()

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Put tensors from `state` back."""
        for name, master in self.masters.items():
            master.copy_(tensors[name])

    def refresh(self) -> None:
        """Drop the gradients; the shares are what was stepped."""
        for share in self._shares.values():
            share.grad = None

    def gathered(self) -> PreTrainedModel:
        """The model in one piece, with what it has learned, in the dtype it computes in; in every process."""
        return self.divided.gathered(self.dtype)

    def release(self) -> None:
        """Nothing: what `gathered` gives is frozen."""
