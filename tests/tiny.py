"""Two-layer models with random weights, and a tokeniser of bytes: what engines are held equal on."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from allmend.engines.torch.lora import Lora

KINDS = ("llama", "qwen2", "gemma3", "mistral")
VOCABULARY = 320
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 257,
    "eos_token_id": 256,
    "pad_token_id": 258,
}


@cache
def tokenizer() -> Any:
    """Bytes 0 to 255 in GPT-2's spelling, some merges, three special tokens; 320 in all."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: place for place, character in enumerate(alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True) for name in ("<end>", "<start>", "<pad>")])
    backend.add_tokens([f"<word{place}>" for place in range(VOCABULARY - len(vocabulary) - 3)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", bos_token="<start>", pad_token="<pad>")


def model(kind: str, *, seed: int = 0, **changes: Any) -> Any:
    """A causal language model in float32 whose logits are far enough apart to compare tokens."""
    torch.manual_seed(seed)
    configs = {
        "llama": transformers.LlamaConfig,
        "qwen2": transformers.Qwen2Config,
        "qwen3": transformers.Qwen3Config,
        "gemma2": transformers.Gemma2Config,
        "gemma3": transformers.Gemma3TextConfig,
        "mistral": transformers.MistralConfig,
        "smollm3": transformers.SmolLM3Config,
    }
    shape: dict[str, Any] = dict(_SHAPE)
    if kind == "gemma3":
        shape |= {"head_dim": 8, "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]}
    if kind in ("gemma2", "qwen3"):
        shape |= {"head_dim": 8}
    if kind == "mistral":
        shape |= {"sliding_window": 24, "num_key_value_heads": 1}
    config = configs[kind](**(shape | {"initializer_range": 0.4} | changes))
    config._attn_implementation = "eager" if kind == "gemma2" else "sdpa"
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def lora(base: Any, *, seed: int, rank: int = 4, targets: tuple[str, ...] = ("q_proj", "v_proj", "down_proj")) -> Lora:
    """An adapter with random matrices, strong enough to change most tokens."""
    numbers = torch.Generator().manual_seed(seed)
    modules = {}
    for name, module in base.named_modules():
        if isinstance(module, torch.nn.Linear) and name.rsplit(".", 1)[-1] in targets:
            a = torch.randn(rank, module.in_features, generator=numbers) * 0.2
            b = torch.randn(module.out_features, rank, generator=numbers) * 0.4
            modules[name] = (a, b)
    return Lora(f"digest-{seed}", modules)


def merged(base: Any, *uses: tuple[Lora, float]) -> Any:
    """A copy of `base` with adapters added into its weights."""
    made = copy.deepcopy(base)
    with torch.no_grad():
        for adapter, scale in uses:
            for name, (a, b) in adapter.modules.items():
                made.get_submodule(name).weight += scale * (b @ a)
    return made


@torch.inference_mode()
def generate(base: Any, prompt: list[int], count: int) -> list[int]:
    """Greedy tokens by transformers alone; stops after an end token, which is part of the answer."""
    answer = base.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=count,
        do_sample=False,
    )
    return list(answer[0, len(prompt) :].tolist())


def recurrent() -> Any:
    """A model without attention: rows laid end to end would run into each other."""
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, state_size=4, eos_token_id=256, bos_token_id=257
    )
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
