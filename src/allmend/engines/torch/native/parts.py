"""From a transformers model to the parts of a decoder of the Llama family; or the reason why it is none.

Parts are recognised by the names that Llama gave them and most families kept, and what cannot be read off them (how
attention is scaled, how far it sees, by how much embeddings are multiplied) is heard or tried. Whoever uses the
parts tries the whole against the model's own forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from allmend.engines.torch.native.abi import PARTS
from allmend.models.norms import Unlike, eps_of, multiplier_of

_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"}
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}
_LAYER = {
    "self_attn", "mlp", "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
}  # fmt: skip
_ACTS = {"SiLU": 0, "SiLUActivation": 0, "GELUTanh": 1, "PytorchGELUTanh": 1, "NewGELUActivation": 1}
_LISTENER = "allmend_native_listener"


@dataclass
class LayerParts:
    """A layer's modules and settings."""

    linears: dict[str, nn.Linear]
    names: dict[str, str]
    """Full name in the model of each linear layer."""
    norms: dict[str, Tensor | None]
    """What each norm multiplies by, fp32."""
    window: int
    scale: float
    rotary: str


@dataclass
class DecoderParts:
    """A decoder."""

    layers: list[LayerParts]
    hidden: int
    inner: int
    query_heads: int
    kv_heads: int
    head_width: int
    act: int
    eps: float
    embed_scale: float
    embedding: Tensor
    head: Tensor
    norm_final: Tensor


@torch.no_grad()
def parts_of(model: Any) -> DecoderParts:
    """Take a causal language model apart; nothing is copied.

    Raises:
        Unlike: it is of another shape.
    """
    decoder, config = model.base_model, model.config.get_text_config()
    for name in ("final_logit_softcapping", "attn_logit_softcapping", "logit_scale", "attention_multiplier"):
        if getattr(config, name, None):
            raise Unlike(name.replace("_", " "))
    for name in ("layers", "embed_tokens", "norm", "rotary_emb"):
        if not hasattr(decoder, name):
            raise Unlike(f"a decoder without {name}")
    head: Any = model.get_output_embeddings()
    if type(head) is not nn.Linear or getattr(head, "bias", None) is not None:
        raise Unlike("the output layer")
    eps = eps_of(decoder.norm)
    heard = _heard(model)
    layers = [_layer(model, layer, place, heard, eps) for place, layer in enumerate(decoder.layers)]
    first = decoder.layers[0]
    width = int(first.self_attn.head_dim)
    linears = layers[0].linears
    act = type(first.mlp.act_fn).__name__
    if act not in _ACTS:
        raise Unlike(f"the activation {act}")
    return DecoderParts(
        layers=layers,
        hidden=linears["q_proj"].in_features,
        inner=linears["gate_proj"].out_features,
        query_heads=linears["q_proj"].out_features // width,
        kv_heads=linears["k_proj"].out_features // width,
        head_width=width,
        act=_ACTS[act],
        eps=eps,
        embed_scale=_embed_scale(decoder),
        embedding=decoder.embed_tokens.weight,
        head=head.weight,
        norm_final=multiplier_of(decoder.norm),
    )


def angles(model: Any, kind: str, positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [positions, head width] in fp32, from the model's own rotary embedding."""
    rotary = model.base_model.rotary_emb
    places = torch.arange(positions).unsqueeze(0)
    more = (kind,) if hasattr(rotary, "layer_types") else ()
    cosine, sine = rotary(torch.empty(1, dtype=torch.float32), places, *more)
    return cosine[0].float().contiguous(), sine[0].float().contiguous()


def _layer(model: Any, layer: Any, place: int, heard: dict[int, dict[str, Any]], eps: float) -> LayerParts:
    attention, mlp = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
    if attention is None or mlp is None:
        raise Unlike("a layer without self_attn or mlp")
    strange = {name for name, child in layer.named_children() if any(True for _ in child.parameters())} - _LAYER
    strange |= {name for name, _ in attention.named_children()} - _ATTENTION - {"rotary_emb"}
    strange |= {name for name, _ in mlp.named_children()} - _MLP
    if strange:
        raise Unlike(f"a layer with {', '.join(sorted(strange))}")
    linears: dict[str, nn.Linear] = {}
    for name in PARTS:
        module = getattr(attention if name in _ATTENTION else mlp, name, None)
        if type(module) is not nn.Linear:
            raise Unlike(f"{name} is no plain linear layer")
        linears[name] = module
    before = hasattr(layer, "pre_feedforward_layernorm")
    norms = {
        "norm_first": layer.input_layernorm,
        "norm_second": layer.pre_feedforward_layernorm if before else layer.post_attention_layernorm,
        "norm_attended": layer.post_attention_layernorm if before else None,
        "norm_fed": getattr(layer, "post_feedforward_layernorm", None),
        "norm_query": getattr(attention, "q_norm", None),
        "norm_key": getattr(attention, "k_norm", None),
    }
    for norm in norms.values():
        if norm is not None and eps_of(norm) != eps:
            raise Unlike("norms of different eps")
    if place not in heard:
        raise Unlike("attention that does not go through the attention interface")
    asked = heard[place]
    if any(asked.get(name) is not None for name in ("softcap", "s_aux", "position_bias")):
        raise Unlike("an attention with additions of its own")
    if not asked["turned"] or not getattr(attention, "use_rope", True):
        raise Unlike("a layer without rotary positions")
    width = int(attention.head_dim)
    every = {id(module): name for name, module in model.named_modules()}
    return LayerParts(
        linears,
        {name: every[id(module)] for name, module in linears.items()},
        {name: None if norm is None else multiplier_of(norm) for name, norm in norms.items()},
        int(asked.get("sliding_window") or 0),
        float(asked["scaling"]) if asked.get("scaling") is not None else width**-0.5,
        str(getattr(attention, "layer_type", None) or ""),
    )


def _heard(model: Any) -> dict[int, dict[str, Any]]:
    """What each layer asks of the attention interface, by layer."""
    heard: dict[int, dict[str, Any]] = {}

    def listen(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **asked: Any
    ) -> tuple[Tensor, None]:
        # The same token twice, of which attention tells nothing: only positions can make the two queries differ.
        turned = not torch.allclose(query[:, :, 0], query[:, :, 1], rtol=1e-2, atol=1e-6)
        heard[int(module.layer_idx)] = {**asked, "turned": turned}
        return torch.zeros_like(query.transpose(1, 2)), None

    # Not the token that pads, whose embedding may be zeros: nothing of those turns.
    token = 2 if getattr(model.get_input_embeddings(), "padding_idx", None) == 1 else 1
    before = model.config._attn_implementation
    ALL_ATTENTION_FUNCTIONS.register(_LISTENER, listen)
    try:
        model.config._attn_implementation_internal = _LISTENER
        model(input_ids=torch.tensor([[token, token]]), use_cache=False)
    except Exception as error:  # an architecture of another kind raises whatever it likes
        raise Unlike(f"a forward pass to listen to failed ({type(error).__name__})") from error
    finally:
        model.config._attn_implementation_internal = before
    return heard


def _embed_scale(decoder: Any) -> float:
    """By how much embeddings are multiplied, found by trying."""
    ids = torch.tensor([1, 2, 3])
    plain, scaled = decoder.embed_tokens.weight[ids].float(), decoder.embed_tokens(ids).float()
    place = int(plain.abs().argmax())
    factor = float(scaled.view(-1)[place] / plain.view(-1)[place])
    stated = getattr(decoder.embed_tokens, "embed_scale", None)
    if isinstance(stated, Tensor) and abs(float(stated) - factor) < 0.02 * abs(factor):
        factor = float(stated.to(decoder.embed_tokens.weight.dtype))
    if not torch.allclose(scaled, plain * factor, rtol=2e-2, atol=1e-4):
        raise Unlike("embeddings that are more than scaled")
    return factor
