"""A byte-level tokenizer made in memory: real tokenizers code, no file, one token a byte."""

from __future__ import annotations

import pytest


def byte_tokenizer(*, adds_bos: bool):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    marks = ["<bos>", "<eos>", "<|begin|>", "<|end|>"]
    inner.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    if adds_bos:
        begin = [("<bos>", inner.token_to_id("<bos>"))]
        inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=begin)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<bos>" if adds_bos else None, eos_token="<eos>" if adds_bos else "<|end|>"
    )


@pytest.fixture(scope="session")
def with_bos():
    """A base model's tokenizer: begins texts with <bos>, ends them with <eos>, has no chat template."""
    return byte_tokenizer(adds_bos=True)


@pytest.fixture(scope="session")
def chatting():
    """An instruct model's tokenizer: no beginning mark, turns between <|begin|> and <|end|>."""
    tokenizer = byte_tokenizer(adds_bos=False)
    tokenizer.chat_template = (
        "{% for m in messages %}<|begin|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|begin|>assistant\n{% endif %}"
    )
    return tokenizer
