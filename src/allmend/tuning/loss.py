"""Cross-entropy where tokens are learned, and nowhere else.

Hidden states are taken at the positions that predict a learned token, and logits exist for a few hundred of these at
a time and, on a CPU, for a piece of the vocabulary: for a small model with a large vocabulary the head is most of the
work, and its logits most of the memory.
The gradient of the hidden states, and of the head where it is learned, is made in the forward pass, from logits that
are there anyway, and nothing of size (positions, vocabulary) is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import cross_entropy

from allmend.models.attention import use_packed
from allmend.models.support import attends_over_packs, has_plain_head, hidden_states, logits_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from allmend.tuning.fast.stack import Stack
    from allmend.tuning.packs import Pack

LOGIT_ROWS = 256
"""Positions whose logits exist at a time."""

VOCABULARY_ROWS = 2048
"""Tokens of the vocabulary whose logits exist at a time, on a CPU: so much of the head stays in its cache."""


class HeadCrossEntropy(Function):
    """Sum of cross-entropies of `softmax(hidden @ weight.T)`.

    Shapes: hidden (P, D), weight (V, D), targets (P,). Returns a scalar in fp32. Where the weight is learned, its
    gradient is added up in fp32.
    The gradient of cross-entropy is softmax minus one at the target (any textbook); computing it beside the loss
    instead of keeping logits is what Liger Kernel (arXiv:2410.10989) does on GPUs.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, rows: int) -> Tensor:
        """Loss, and the gradient that `backward` will scale."""
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, min(start + rows, hidden.shape[0]))
            found: Tensor | None
            if of_weight is not None:
                loss, found = _with_weight(hidden[part], weight, targets[part], of_weight)
            else:
                loss, found = _in_blocks(hidden[part], weight, targets[part], gradient is not None)
            total += loss
            if gradient is not None and found is not None:
                gradient[part] = found
        ctx.save_for_backward(gradient, None if of_weight is None else of_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Scale the gradients that the forward pass made."""
        found = [None if one is None else one * outer[0].to(one.dtype) for one in ctx.saved_tensors]
        return found[0], found[1], None, None


def _with_weight(hidden: Tensor, weight: Tensor, targets: Tensor, of_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and gradient of `hidden` (P, D) from whole logits; adds the weight's gradient to `of_weight` (V, D)."""
    logits = (hidden @ weight.T).float()
    target = targets.unsqueeze(1)
    norm = logits.logsumexp(dim=1, keepdim=True)
    loss = (norm - logits.gather(1, target)).sum()
    share = logits.sub_(norm).exp_()
    share.scatter_add_(1, target, torch.full_like(target, -1, dtype=share.dtype))
    share = share.to(weight.dtype)
    of_weight += share.T @ hidden
    return loss, share @ weight


def _in_blocks(hidden: Tensor, weight: Tensor, targets: Tensor, learns: bool) -> tuple[Tensor, Tensor | None]:
    """Loss and gradient of `hidden` (P, D), with the vocabulary in blocks: each is read from memory once for both
    products, and exponentials are scaled again whenever a block has a larger logit (Milakov and Gimelshein,
    arXiv:1805.02867).

    The target's own part is kept apart: where a token is known well, softmax minus one is a small difference of
    numbers near one, which bf16 would lose.
    """
    block = VOCABULARY_ROWS if hidden.device.type == "cpu" else weight.shape[0]
    rows = torch.arange(hidden.shape[0], device=hidden.device)
    largest = torch.full((hidden.shape[0], 1), -torch.inf, device=hidden.device)
    others, own = torch.zeros_like(largest), torch.empty_like(largest)
    gradient = torch.zeros(hidden.shape, device=hidden.device) if learns else None
    for start in range(0, weight.shape[0], block):
        part = weight[start : start + block]
        logits = (hidden @ part.T).float()
        inside = (targets >= start) & (targets < start + block)
        place = (rows[inside], targets[inside] - start)
        own[inside, 0] = logits[place]
        larger = torch.maximum(largest, logits.amax(dim=1, keepdim=True))
        scale = (largest - larger).exp_()
        largest = larger
        share = logits.sub_(largest).exp_()
        share[place] = 0.0
        others.mul_(scale).add_(share.sum(dim=1, keepdim=True))
        if gradient is not None:
            gradient.mul_(scale).add_(share.to(weight.dtype) @ part)
    whole = others + (own - largest).exp()
    loss = (largest + whole.log() - own).sum()
    if gradient is None:
        return loss, None
    gradient.sub_(weight[targets].float().mul_(others)).div_(whole)
    return loss, gradient.to(hidden.dtype)


def pack_loss(model: PreTrainedModel, pack: Pack, fused: bool = True) -> Tensor:
    """Sum of cross-entropies over the learned tokens of a pack; a scalar in fp32.

    Args:
        fused: False takes full logits at the learned positions and torch's own cross-entropy: the plain path that
            the other is held equal to.
    """
    with use_packed(model):
        hidden = hidden_states(model, pack.ids, segments=pack.segments)
    return _loss(model, hidden[0].index_select(0, pack.predict), pack.targets, fused)


def row_by_row_loss(model: PreTrainedModel, pack: Pack, fused: bool = True) -> Tensor:
    """The same for models that cannot attend over packs: each row by itself."""
    total = torch.zeros((), device=pack.ids.device)
    start = 0
    for length in pack.segments.lengths:
        inside = (pack.predict >= start) & (pack.predict < start + length)
        if inside.any():
            hidden = hidden_states(model, pack.ids[:, start : start + length])
            total = total + _loss(model, hidden[0, pack.predict[inside] - start], pack.targets[inside], fused)
        start += length
    return total


def loss_of(model: PreTrainedModel, pack: Pack) -> Tensor:
    """`pack_loss`, or `row_by_row_loss` where the model cannot attend over packs."""
    return (pack_loss if attends_over_packs(model) else row_by_row_loss)(model, pack)


def lean_loss(model: PreTrainedModel, stack: Stack, pack: Pack, fused: bool = True) -> Tensor:
    """The same by the layers of the fast path."""
    hidden = stack.hidden(pack.ids, pack.segments, pack.predict, model.training)
    return _loss(model, hidden, pack.targets, fused)


def whole_loss(model: PreTrainedModel, pack: Pack) -> Tensor:
    """The same with logits at every position, as a model's own loss makes them; nothing of ours but the packing."""
    if attends_over_packs(model):
        with use_packed(model):
            hidden = hidden_states(model, pack.ids, segments=pack.segments)
        logits = logits_of(model, hidden[0])
        return cross_entropy(logits.float().index_select(0, pack.predict), pack.targets, reduction="sum")
    return row_by_row_loss(model, pack, fused=False)


def _loss(model: PreTrainedModel, hidden: Tensor, targets: Tensor, fused: bool) -> Tensor:
    if fused and has_plain_head(model):
        weight = model.get_output_embeddings().weight
        # Inside the function nothing tells that no gradient is wanted.
        weight = weight if torch.is_grad_enabled() else weight.detach()
        loss: Tensor = HeadCrossEntropy.apply(hidden, weight, targets, LOGIT_ROWS)  # type: ignore[no-untyped-call]
        return loss
    return cross_entropy(logits_of(model, hidden).float(), targets, reduction="sum")


@torch.no_grad()
def mean_loss(model: PreTrainedModel, packs: list[Pack], loss: Callable[[Pack], Tensor] | None = None) -> float:
    """Loss per learned token over packs, in evaluation mode; by `loss` where one is given, else `loss_of`."""
    training = model.training
    model.eval()
    total = sum(float(loss(pack) if loss else loss_of(model, pack)) for pack in packs)
    model.train(training)
    return total / max(1, sum(pack.targets.numel() for pack in packs))
