"""From a transformers model with LoRAs in it to a `Stack`; or the reason why not.

A decoder is recognised by its parts (the names that Llama gave them and most families kept), each part is tried
against a formula, and the whole is tried against the model's own forward pass. Anything else keeps its own forward
pass, with the reason named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from allmend.adapters import LoraLinear, LoraSet
from allmend.models.attention import packed_attention, segments_of
from allmend.models.norms import Unlike, eps_of, multiplier_of
from allmend.models.quantised import QuantisedLinear
from allmend.models.support import hidden_states
from allmend.tuning.fast.attend import Heads
from allmend.tuning.fast.bordered import Bordered, BorderedQuantised, Low, Scratch
from allmend.tuning.fast.chains import Chains, Kind, TorchChains
from allmend.tuning.fast.layer import Layer
from allmend.tuning.fast.native import NativeChains, library
from allmend.tuning.fast.stack import Angles, Stack

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"}
_LAYER = {
    "self_attn", "mlp", "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
}  # fmt: skip
_ACTS: dict[str, Kind] = {
    "SiLU": "silu", "SiLUActivation": "silu", "GELUTanh": "gelu_tanh", "PytorchGELUTanh": "gelu_tanh",
    "NewGELUActivation": "gelu_tanh",
}  # fmt: skip
_LISTENER = "allmend_listener"
_PLAIN = (nn.Linear, QuantisedLinear)


def chains_for(model: PreTrainedModel, native: bool = True) -> tuple[Chains, str]:
    """The compiled chains where they can be had, else torch's; and why."""
    if not native:
        return TorchChains(), "turned off"
    if model.device.type != "cpu":
        return TorchChains(), f"compiled chains are for the CPU, the model is on {model.device.type}"
    compiled, why = library()
    return (NativeChains(compiled), why) if compiled is not None else (TorchChains(), why)


def stack_of(
    model: PreTrainedModel,
    lora: LoraSet,
    chains: Chains,
    *,
    top_where_learned: bool = True,
    stop_at_lowest: bool = True,
) -> Stack:
    """Take the model apart. Until `release`, the weights of its linear layers are views of the stack's matrices.

    Raises:
        Unlike: it is of another shape; the model is as it was.
    """
    decoder: Any = model.base_model
    if model.dtype not in (torch.float32, torch.bfloat16):
        raise Unlike(f"weights in {str(model.dtype).removeprefix('torch.')}")
    if lora.config.dropout and lora.config.dora:
        raise Unlike("dropout and DoRA together, which need a product of their own")
    if {name for name, _ in decoder.named_children()} != {"embed_tokens", "layers", "norm", "rotary_emb"}:
        raise Unlike("parts of the decoder that are not known here")
    eps = eps_of(decoder.norm)
    asked = _asked(model)
    parts = [_Parts(layer, eps, asked.get(layer.self_attn)) for layer in decoder.layers]
    angles = {name: _angles(decoder, name) for name in sorted({one.rotary for one in parts})}
    scratch = Scratch()
    stack = Stack(
        chains=chains,
        embed=lambda ids: decoder.embed_tokens(ids).detach(),
        layers=[one.build(chains, lora.config.dropout, scratch) for one in parts],
        norm=multiplier_of(decoder.norm),
        eps=eps,
        angles=angles,
        top_where_learned=top_where_learned,
        stop_at_lowest=stop_at_lowest,
    )
    training = model.training
    model.eval()  # dropout would make the two passes differ
    try:
        difference = _difference(model, stack)
    finally:
        model.train(training)
    if difference > (1e-4 if model.dtype == torch.float32 else 0.08):
        stack.release()
        raise Unlike(f"its own forward pass gives something else (by {difference:.1g} of the norm)")
    return stack


class _Parts:
    """One decoder layer's parts, checked before anything is changed."""

    def __init__(self, layer: Any, eps: float, asked: dict[str, Any] | None) -> None:
        unknown = {name for name, _ in layer.named_children()} - _LAYER
        attention, mlp = layer.self_attn, layer.mlp
        unknown |= {name for name, _ in attention.named_children()} - _ATTENTION
        unknown |= {name for name, _ in mlp.named_children()} - {"gate_proj", "up_proj", "down_proj", "act_fn"}
        if unknown:
            raise Unlike(f"a layer has {sorted(unknown)[0]}")
        self.linears = {}
        for owner, names in ((attention, ("q_proj", "k_proj", "v_proj", "o_proj")),
                             (mlp, ("gate_proj", "up_proj", "down_proj"))):  # fmt: skip
            for name in names:
                self.linears[name] = _linear(getattr(owner, name, None), name)
        for side_by_side in (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")):
            if len({type(self.linears[name][0]) for name in side_by_side}) > 1:
                raise Unlike("layers that read the same input, of which only some are quantised")
        act = type(getattr(mlp, "act_fn", None)).__name__
        if act not in _ACTS:
            raise Unlike(f"the activation {act}")
        if asked is None:
            raise Unlike("attention that does not go through the attention interface")
        others = {name for name, value in asked.items() if value and name not in {"scaling", "sliding_window"}}
        if others:
            raise Unlike(f"attention with {sorted(others)[0]}")
        self.kind, self.eps = _ACTS[act], eps
        width = int(attention.head_dim)
        queries = self.linears["q_proj"][0].out_features // width
        keys = self.linears["k_proj"][0].out_features // width
        if queries % keys or width % 2:
            raise Unlike("heads that do not divide")
        self.heads = Heads(
            keys, queries // keys, width, asked.get("scaling") or width**-0.5, asked.get("sliding_window") or 0
        )
        # Gemma 3 calls the post norm of attention what Llama calls the norm before the MLP.
        four = hasattr(layer, "pre_feedforward_layernorm")
        second = layer.pre_feedforward_layernorm if four else layer.post_attention_layernorm
        self.norms = {
            "norm_first": layer.input_layernorm,
            "norm_second": second,
            "norm_attended": layer.post_attention_layernorm if four else None,
            "norm_fed": layer.post_feedforward_layernorm if four else None,
            "norm_query": getattr(attention, "q_norm", None),
            "norm_key": getattr(attention, "k_norm", None),
        }
        for name, norm in self.norms.items():
            if norm is None:
                continue
            if eps_of(norm) != eps:
                raise Unlike("norms of different eps")
            if name in {"norm_query", "norm_key"} and norm.weight.shape[-1] != width:
                raise Unlike("norms over all heads at once")
        self.scales = {name: None if norm is None else multiplier_of(norm) for name, norm in self.norms.items()}
        kind = getattr(attention, "layer_type", None)
        self.rotary = str(kind) if kind else ""

    def build(self, chains: Chains, dropout: float, scratch: Scratch) -> Layer:
        """The layer, with its matrices."""

        def product(*names: str) -> Bordered:
            bases, lows = zip(*(self.linears[name] for name in names), strict=True)
            packed = [base for base in bases if isinstance(base, QuantisedLinear)]
            if packed:
                return BorderedQuantised(packed, lows, dropout, chains, scratch)
            return Bordered(bases, lows, dropout)

        first, second = self.scales["norm_first"], self.scales["norm_second"]
        assert first is not None and second is not None
        return Layer(
            chains=chains,
            heads=self.heads,
            kind=self.kind,
            eps=self.eps,
            norm_first=first,
            norm_second=second,
            norm_attended=self.scales["norm_attended"],
            norm_fed=self.scales["norm_fed"],
            norm_query=self.scales["norm_query"],
            norm_key=self.scales["norm_key"],
            rotary=self.rotary,
            qkv=product("q_proj", "k_proj", "v_proj"),
            out=product("o_proj"),
            gate_up=product("gate_proj", "up_proj"),
            down=product("down_proj"),
        )


@torch.no_grad()
def _asked(model: PreTrainedModel) -> dict[nn.Module, dict[str, Any]]:
    """What each attention module asks of the attention interface (scale, window, dropout, …), heard in training mode.

    Raises:
        Unlike: the forward pass does not run over a pack.
    """
    heard: dict[nn.Module, dict[str, Any]] = {}
    known = {"segments", "position_ids", "attention_mask", "use_cache", "past_key_values", "is_causal"}

    def listen(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **asked: Any
    ) -> tuple[Tensor, None]:
        heard[module] = {name: value for name, value in asked.items() if name not in known}
        return packed_attention(module, query, key, value, mask, **asked)

    before, training = model.config._attn_implementation, model.training
    ALL_ATTENTION_FUNCTIONS.register(_LISTENER, listen)
    try:
        model.config._attn_implementation = _LISTENER
        model.train()
        ids = torch.tensor([[3, 2]], device=model.device)
        hidden_states(model, ids, segments=segments_of([2], model.device))
    except Exception as error:  # an architecture that takes no extra keywords raises whatever it likes
        raise Unlike(f"a forward pass over a pack failed ({type(error).__name__})") from error
    finally:
        model.config._attn_implementation = before
        model.train(training)
    return heard


def _linear(module: Any, name: str) -> tuple[nn.Linear, Low | None]:
    if isinstance(module, LoraLinear):
        if type(module.base) not in _PLAIN:
            raise Unlike(f"{name} over a {type(module.base).__name__}")
        return module.base, Low(module.lora_a, module.lora_b, module.scale, module.magnitude)
    if type(module) not in _PLAIN:
        raise Unlike(f"{name} is no plain linear layer")
    return module, None


def _angles(decoder: Any, kind: str) -> Angles:
    """Tables of cosine and sine from the model's own rotary embedding, grown as longer rows come."""
    rotary, dtype = decoder.rotary_emb, decoder.embed_tokens.weight.dtype
    types = getattr(rotary, "rope_type", "default")
    for name in set(types.values()) if isinstance(types, dict) else {types}:
        if name not in {"default", "linear", "llama3", "yarn"}:
            raise Unlike(f"rotary angles of the kind {name}, which depend on the length")
    per_kind = hasattr(rotary, "layer_types")
    made: list[tuple[Tensor, Tensor]] = []

    def angles(positions: int) -> tuple[Tensor, Tensor]:
        if not made or made[0][0].shape[0] < positions:
            device = decoder.embed_tokens.weight.device
            places = torch.arange(max(256, positions + positions // 4), device=device).unsqueeze(0)
            more = (kind,) if per_kind else ()
            cosine, sine = rotary(torch.empty(1, dtype=dtype, device=device), places, *more)
            made[:] = [(cosine[0].float().contiguous(), sine[0].float().contiguous())]
        return made[0]

    with torch.no_grad():
        width = angles(1)[0].shape[1]
    if width != int(decoder.layers[0].self_attn.head_dim):
        raise Unlike("heads that turn only in part")
    return angles


@torch.no_grad()
def _difference(model: PreTrainedModel, stack: Stack) -> float:
    """How far a pack of two short rows is from the same rows in the model's own pass, as a share of the norm.

    The median over tokens: rounding in bf16 can throw a single odd token far, a wrong formula moves all of them.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    rows = [[7, 5, 3, 13, 17], [11, 2, 19]]
    device = model.device
    wanted = torch.cat([hidden_states(model, torch.tensor([row], device=device) % vocabulary) for row in rows], dim=1)[
        0
    ].float()
    ids = torch.tensor([rows[0] + rows[1]], device=device) % vocabulary
    every = torch.arange(ids.shape[1], device=device)
    try:
        have, _ = stack.run(ids, segments_of([5, 3], device), every, keep=False)
    except (RuntimeError, ValueError, TypeError) as error:
        stack.release()
        raise Unlike(f"a trial failed ({type(error).__name__})") from error
    return float(((have.float() - wanted).norm(dim=1) / wanted.norm(dim=1)).median())
