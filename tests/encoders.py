"""Encoders of two layers with random weights, written to disk as sentence-transformers has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

import tiny

_SHAPE: dict[str, Any] = {
    "vocab_size": tiny.VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 80,
    "pad_token_id": 258,
    "initializer_range": 0.3,
}


def encoder(kind: str, *, seed: int = 0) -> Any:
    """A network in float32."""
    torch.manual_seed(seed)
    if kind == "bert":
        return transformers.BertModel(transformers.BertConfig(**_SHAPE)).eval()
    if kind == "roberta":
        shape = _SHAPE | {"max_position_embeddings": 80 + 259, "type_vocab_size": 1}
        return transformers.RobertaModel(transformers.RobertaConfig(**shape)).eval()
    if kind == "electra":
        return transformers.ElectraModel(transformers.ElectraConfig(**_SHAPE, embedding_size=32)).eval()
    return tiny.model(kind).base_model


def folder(at: Path, kind: str = "bert", *, mode: str = "mean", normalise: bool = True, limit: int = 64) -> Path:
    """An embedding model's folder."""
    encoder(kind).save_pretrained(at)
    tiny.tokenizer().save_pretrained(at)
    names = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
    kinds = [
        {"idx": n, "name": str(n), "path": "" if n == 0 else f"{n}_{name}",
         "type": f"sentence_transformers.models.{name}"}
        for n, name in enumerate(names)
    ]  # fmt: skip
    (at / "modules.json").write_text(json.dumps(kinds))
    (at / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": limit, "do_lower_case": False}))
    flags = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "lasttoken": "lasttoken"}
    pooling = {f"pooling_mode_{flag}": name == mode for name, flag in flags.items()}
    for number, name in enumerate(names[1:], 1):
        (at / f"{number}_{name}").mkdir(exist_ok=True)
    (at / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    return at


def ranker(at: Path, kind: str = "bert") -> Path:
    """A cross-encoder's folder."""
    torch.manual_seed(3)
    if kind == "roberta":
        shape = _SHAPE | {"max_position_embeddings": 80 + 259, "type_vocab_size": 1}
        config: Any = transformers.RobertaConfig(**shape, num_labels=1)
        transformers.RobertaForSequenceClassification(config).save_pretrained(at)
    else:
        config = transformers.BertConfig(**_SHAPE, num_labels=1)
        transformers.BertForSequenceClassification(config).save_pretrained(at)
    tiny.tokenizer().save_pretrained(at)
    return at
