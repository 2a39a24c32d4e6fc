"""Models that sides are compared on: the embedded default, or random weights of a named shape (speed needs no more)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    "qwen2-0.5b": {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True, "max_position_embeddings": 32768,
    },
    "qwen2-3b": {
        "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True, "max_position_embeddings": 32768,
    },
}  # fmt: skip
"""As their publisher's configurations state them."""


def folder(shape: str, where: Path, layers: int | None = None) -> Path:
    """A model folder of random bf16 weights in that shape, with a tokenizer of bytes; made once.

    Args:
        layers: fewer layers than the shape has.
    """
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

    target = where / f"{shape}-{layers or 'all'}"
    if target.is_dir():
        return target
    torch.manual_seed(0)
    config = Qwen2Config(**(SHAPES[shape] | ({"num_hidden_layers": layers} if layers else {})))
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(target)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={character: place for place, character in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True) for name in ("<end>", "<pad>")])
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<pad>").save_pretrained(target)
    return target


def resolved(model: str) -> Any:
    """What `load` takes: a catalogue name, or a folder."""
    from allmend.models import resolve

    return resolve(model)
