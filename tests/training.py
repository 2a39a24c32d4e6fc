"""What tests of training share: a two-layer model in memory, and rows of tokens."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import tiny
from allmend.data import Tokens
from allmend.models.loading import Loaded
from allmend.nouns.model import Model
from allmend.tuning.loop import Plan


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


def plain_loss(model: Any, rows: list[Tokens], plan: Plan, step: int) -> Tensor:
    """The loss of a step by the plain recipe: the batch that `plan` takes then, padded, with full logits."""
    epoch, inside = divmod(step, math.ceil(len(rows) / plan.batch_rows))
    order = np.random.default_rng([plan.seed, epoch]).permutation(len(rows))
    batch = [rows[place] for place in order[inside * plan.batch_rows : (inside + 1) * plan.batch_rows]]
    longest = max(map(len, batch))
    ids = torch.tensor([row.ids + [0] * (longest - len(row)) for row in batch])
    attended = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
    labels = torch.full_like(ids, -100)
    for place, row in enumerate(batch):
        for token in range(1, len(row)):
            if row.mask[token]:
                labels[place, token] = row.ids[token]
    logits = model(input_ids=ids, attention_mask=attended).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
