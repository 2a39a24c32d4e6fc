"""What tests of training share: a two-layer model in memory, and rows of tokens."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

import tiny
from allmend.data import Tokens
from allmend.models.loading import Loaded
from allmend.nouns.model import Model


def loaded(kind: str = "llama", model: Any = None, **changes: Any) -> Loaded:
    """A random model as `allmend.models.loading.load` gives one: frozen, in evaluation mode."""
    network = (model or tiny.model(kind, **changes)).requires_grad_(False).eval()
    return Loaded(
        about=Model(name="tiny", source="folder", format="safetensors", path=Path("tiny"), digest="d" * 64),
        model=network,
        tokenizer=tiny.tokenizer(),
        context=512,
        template=None,
        dtype=torch.float32,
        device=torch.device("cpu"),
        folder=Path("tiny"),
    )


def rows(count: int, seed: int = 0, longest: int = 40) -> list[Tokens]:
    """Rows of random length whose answers can be learned: a prompt, then a run of its last token."""
    numbers = random.Random(seed)
    made = []
    for place in range(count):
        prompt = [numbers.randrange(200) for _ in range(numbers.randrange(1, longest // 2))]
        answer = [prompt[-1]] * numbers.randrange(1, longest // 4) + [256]
        made.append(Tokens(prompt + answer, bytes(len(prompt)) + b"\1" * len(answer), f"rows:{place}"))
    return made
