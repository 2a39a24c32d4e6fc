"""Cross-encoders: how much a document says about a question, both read together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch

from allmend.engines.torch.embedding.packs import packs_of
from allmend.engines.torch.embedding.setup import limit_of
from allmend.errors import InputError
from allmend.models.loading import chosen_device, load_network, load_tokenizer
from allmend.nouns.model import Model

_PACK_TOKENS = 2048


class PairScorer:
    """A sequence-classification model with one label, in float32 through transformers."""

    def __init__(self, model: Model) -> None:
        device, _ = chosen_device(None)
        network: Any = load_network(model.path, torch.float32, "AutoModelForSequenceClassification")
        if network.config.num_labels != 1:
            raise InputError(
                f"this classifier has {network.config.num_labels} labels; ranking takes a model with one",
                where=str(model.path),
            )
        self._network = network.eval().requires_grad_(False).to(device)
        self._tokenizer: Any = load_tokenizer(model)
        self.limit = limit_of(network, self._tokenizer)
        self._turn = threading.Lock()

    @torch.inference_mode()
    def scores(self, query: str, documents: Sequence[str]) -> tuple[list[float], int]:
        """(0 to 1 for each document, tokens read)."""
        encoded = self._tokenizer(
            [query] * len(documents), list(documents), truncation=True, max_length=self.limit, padding=False
        )
        lengths = [len(ids) for ids in encoded["input_ids"]]
        out = [0.0] * len(documents)
        for pack in packs_of(lengths, _PACK_TOKENS):
            chosen = {name: [values[number] for number in pack] for name, values in encoded.items()}
            batch = self._tokenizer.pad(chosen, return_tensors="pt").to(self._network.device)
            with self._turn:
                logits = self._network(**batch).logits[:, 0]
            for number, score in zip(pack, torch.sigmoid(logits.float()).tolist(), strict=True):
                out[number] = score
        return out, sum(lengths)

    def close(self) -> None:
        """Nothing runs."""
