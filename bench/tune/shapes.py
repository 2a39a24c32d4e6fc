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
    "two-layers": {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 320, "tie_word_embeddings": True, "max_position_embeddings": 512,
    },
}  # fmt: skip
"""As their publishers' configurations state them; the last is ours, to try things out on."""


def folder(shape: str, where: Path, layers: int | None = None) -> Path:
    """A model folder of random bf16 weights in that shape, with a tokenizer of bytes; made once.

    The model is never in memory: one layer is drawn, and written as each of them, a file a layer.

    Args:
        layers: fewer layers than the shape has.
    """
    import json

    import torch
    from safetensors.torch import save_file
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

    target = where / f"{shape}-{layers or 'all'}"
    if target.is_dir():
        return target
    torch.manual_seed(0)
    config = Qwen2Config(**(SHAPES[shape] | ({"num_hidden_layers": layers} if layers else {})))
    config.architectures, config.dtype = ["Qwen2ForCausalLM"], torch.bfloat16
    config.save_pretrained(target)
    single = Qwen2Config(**(SHAPES[shape] | {"num_hidden_layers": 1}))
    network = AutoModelForCausalLM.from_config(single, dtype=torch.bfloat16)
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    first = "model.layers.0."
    files: dict[str, str] = {}
    for number in (None, *range(config.num_hidden_layers)):
        file = f"layer-{number}.safetensors" if number is not None else "ends.safetensors"
        part = {
            name.replace(first, f"model.layers.{number}."): weight
            for name, weight in weights.items()
            if name.startswith(first) == (number is not None)
        }
        save_file(part, target / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": files}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
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
