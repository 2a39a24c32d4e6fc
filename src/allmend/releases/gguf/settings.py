"""A model's configuration in GGUF's keys, for the families of Llama, Qwen and Gemma."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allmend.errors import InputError, Unavailable

FAMILIES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
}
"""`model_type` of transformers: architecture of llama.cpp."""


@dataclass(frozen=True)
class Settings:
    """What a GGUF says of a model beside its tensors and tokenizer."""

    architecture: str
    layers: int
    heads: int
    kv_heads: int
    values: dict[str, Any]
    """Key without the architecture's name before it: value."""
    tied: bool
    rope_factors: list[float] | None = None
    """Llama 3's stretching of frequencies, a tensor of its own."""

    @property
    def permutes(self) -> bool:
        """Whether rows of q and k are stored in pairs that turn together (llama.cpp's NORM rope)."""
        return self.architecture == "llama"

    @property
    def norm_offset(self) -> float:
        """Gemma multiplies by 1 + weight; llama.cpp keeps the sum."""
        return 1.0 if self.architecture.startswith("gemma") else 0.0


def config_of(folder: Path) -> dict[str, Any]:
    """The configuration of a model folder."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the model's configuration cannot be read: {error}", where=str(folder)) from None
    return config


def settings_of(config: dict[str, Any], folder: Path | None = None) -> Settings:
    """GGUF's settings for a transformers configuration.

    Raises:
        Unavailable: a family, or a setting of it, that is not written.
    """
    kind = str(config.get("model_type"))
    if kind not in FAMILIES:
        raise Unavailable(
            f"GGUF of {kind!r} models is not written; known: {', '.join(FAMILIES)}",
            where=str(folder) if folder else None,
            hint="Ship without --gguf, or convert merged/ with llama.cpp's own script.",
        )
    architecture = FAMILIES[kind]
    heads, layers = int(config["num_attention_heads"]), int(config["num_hidden_layers"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head = int(config.get("head_dim") or config["hidden_size"] // heads)
    values: dict[str, Any] = {
        "context_length": int(config["max_position_embeddings"]),
        "embedding_length": int(config["hidden_size"]),
        "block_count": layers,
        "feed_forward_length": int(config["intermediate_size"]),
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "attention.key_length": head,
        "attention.value_length": head,
    }
    if architecture == "llama":
        values |= {"vocab_size": int(config["vocab_size"]), "rope.dimension_count": head}
    factors = _rope(config, values, head)
    _windows(config, architecture, values, layers)
    _caps(config, architecture, values, head)
    tied = bool(config.get("tie_word_embeddings", architecture.startswith("gemma")))
    return Settings(architecture, layers, heads, kv_heads, values, tied, factors)


def _rope(config: dict[str, Any], values: dict[str, Any], head: int) -> list[float] | None:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if "full_attention" in rope:
        local = rope.get("sliding_attention") or {}
        if local.get("rope_theta"):
            values["rope.freq_base_swa"] = float(local["rope_theta"])
        rope = rope["full_attention"]
    values["rope.freq_base"] = float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    if float(rope.get("partial_rotary_factor") or 1.0) != 1.0:
        raise Unavailable("rotary positions on a part of each head are not written to GGUF")
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind == "linear":
        values |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
        return None
    if kind == "llama3":
        return _llama3(rope, values["rope.freq_base"], head)
    raise Unavailable(f"rope scaling {kind!r} is not written to GGUF", hint="Ship without --gguf.")


def _llama3(rope: dict[str, Any], base: float, head: int) -> list[float]:
    """Divisors of the frequencies (Llama 3.1's `rope_scaling`, as transformers computes it)."""
    factor, low, high = float(rope["factor"]), float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    old = float(rope["original_max_position_embeddings"])
    factors = []
    for place in range(0, head, 2):
        wave = 2 * math.pi * base ** (place / head)
        if wave < old / high:
            factors.append(1.0)
        elif wave > old / low:
            factors.append(factor)
        else:
            smooth = (old / wave - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


def _windows(config: dict[str, Any], architecture: str, values: dict[str, Any], layers: int) -> None:
    kinds = config.get("layer_types") or []
    window = config.get("sliding_window")
    if config.get("model_type") == "mistral" and window and int(window) < int(config["max_position_embeddings"]):
        raise Unavailable("sliding windows of mistral are not written to GGUF", hint="Ship without --gguf.")
    local = [kind == "sliding_attention" for kind in kinds]
    if not any(local) or not config.get("sliding_window"):
        if architecture == "gemma3":
            values["attention.sliding_window"] = int(config.get("sliding_window") or 0)
        return
    if architecture not in ("gemma2", "gemma3"):
        raise Unavailable(f"sliding windows of {config['model_type']} are not written to GGUF")
    values["attention.sliding_window"] = int(config["sliding_window"])
    period = 2 if architecture == "gemma2" else 6
    if local != [(place + 1) % period != 0 for place in range(layers)]:
        raise Unavailable(
            f"llama.cpp gives every {period}th layer of {architecture} full attention; this model does otherwise",
            hint="Ship without --gguf.",
        )


def _caps(config: dict[str, Any], architecture: str, values: dict[str, Any], head: int) -> None:
    if architecture == "gemma2":
        values["attn_logit_softcapping"] = float(config.get("attn_logit_softcapping") or 0.0)
    if config.get("final_logit_softcapping"):
        if architecture not in ("gemma2", "gemma3"):
            raise Unavailable("a cap on the logits is not written to GGUF for this family")
        values["final_logit_softcapping"] = float(config["final_logit_softcapping"])
    if architecture == "gemma3" and config.get("attn_logit_softcapping"):
        raise Unavailable("a cap on attention scores is not written to GGUF for this family")
    scale = config.get("query_pre_attn_scalar")
    if scale and float(scale) != head:
        raise Unavailable(
            "llama.cpp divides this family's queries by the root of the head's size; this model does otherwise",
            hint="Ship without --gguf.",
        )
    if config.get("attention_bias") and architecture.startswith(("gemma", "qwen3")):
        raise Unavailable("biases of attention are not written to GGUF for this family")


def generation_of(folder: Path) -> dict[str, Any]:
    """`generation_config.json`: how the model's makers say it should be sampled."""
    try:
        value = json.loads((folder / "generation_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def sampling_of(generation: dict[str, Any]) -> dict[str, Any]:
    """Sampler defaults in GGUF's keys (`general.sampling.…`); none where the makers state none."""
    if generation.get("do_sample") is False:
        return {}
    names = {"temperature": "temp", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}
    made: dict[str, Any] = {}
    for name, key in names.items():
        if generation.get(name) is not None:
            value = generation[name]
            made[f"general.sampling.{key}"] = int(value) if name == "top_k" else float(value)
    if generation.get("repetition_penalty") not in (None, 1.0):
        made["general.sampling.penalty_repeat"] = float(generation["repetition_penalty"])
    return made
