"""What a transformers model supports of our own passes, found by looking and by trying, never by a list of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from allmend.models.attention import segments_of, use_packed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from allmend.models.attention import Segments

_packs: WeakKeyDictionary[Any, str | None] = WeakKeyDictionary()
_heads: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def attends_over_packs(model: PreTrainedModel) -> bool:
    """Whether the model can attend over packs; `why_no_packs` says why not."""
    return why_no_packs(model) is None


def why_no_packs(model: PreTrainedModel) -> str | None:
    """None when two rows in one pack give what each gives alone; else the reason, in words.

    Tried once a model: a pack of two short rows against each of them by itself.
    """
    if model not in _packs:
        _packs[model] = _try_packs(model)
    return _packs[model]


@torch.inference_mode()
def _try_packs(model: PreTrainedModel) -> str | None:
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        return "its attention caps scores, which packed attention does not"
    vocabulary = model.get_input_embeddings().weight.shape[0]
    first, second = [7 % vocabulary, 5 % vocabulary, 3 % vocabulary], [11 % vocabulary, 2 % vocabulary]
    training = model.training
    model.eval()
    try:
        with use_packed(model):
            ids = torch.tensor([first + second], device=model.device)
            together = hidden_states(model, ids, segments=segments_of([3, 2], model.device))
        apart = [hidden_states(model, torch.tensor([row], device=model.device)) for row in (first, second)]
    except Exception as error:  # an architecture that takes no extra keywords raises whatever it likes
        return f"its architecture does not go through the attention interface ({type(error).__name__})"
    finally:
        model.train(training)
    wanted = torch.cat(apart, dim=1)
    # As a share of the norm: rounding stays below it, a wrong mask or position is far above it.
    difference = float((together - wanted).float().norm() / wanted.float().norm())
    if difference <= (1e-4 if together.dtype == torch.float32 else 0.05):
        return None
    return "rows in a pack influence each other in this architecture"


def hidden_states(model: PreTrainedModel, ids: Tensor, segments: Segments | None = None) -> Tensor:
    """(1, T) ids to (1, T, D) hidden states after the final norm, without logits."""
    more: dict[str, Any] = {"segments": segments, "position_ids": segments.positions} if segments is not None else {}
    output = model.base_model(input_ids=ids, use_cache=False, **more)
    return cast(Tensor, output.last_hidden_state)


def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether the logits are one linear map of the hidden states: no cap, no scale. Tried once a model."""
    if model not in _heads:
        _heads[model] = _try_head(model)
    return _heads[model]


@torch.inference_mode()
def _try_head(model: PreTrainedModel) -> bool:
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or getattr(head, "bias", None) is not None:
        return False
    ids = torch.tensor([[3, 2, 1]], device=model.device) % model.get_input_embeddings().weight.shape[0]
    # Dropout would make the two passes differ, and draw random numbers that belong to the training.
    training = model.training
    model.eval()
    try:
        hidden = hidden_states(model, ids)
        return bool(torch.equal(head(hidden), model(input_ids=ids, use_cache=False).logits))
    finally:
        model.train(training)


def logits_of(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """(N, D) hidden states to (N, V) logits, with what the architecture does to them (caps, scales)."""
    head = model.get_output_embeddings()
    logits = cast(Tensor, head(hidden))
    if has_plain_head(model):
        return logits
    config = model.config.get_text_config()
    scale = getattr(config, "logit_scale", None) or 1.0
    divide = getattr(config, "logits_scaling", None) or 1.0
    cap = getattr(config, "final_logit_softcapping", None)
    logits = logits * scale / divide
    return torch.tanh(logits / cap) * cap if cap else logits
