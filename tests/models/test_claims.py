"""A config.json that describes another model than the weights beside it is told before memory is given to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from allmend.errors import InputError
from allmend.models import resolve
from allmend.models.claims import check_claims
from allmend.models.loading import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.model("llama").save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"hidden_size": 10**8, "num_attention_heads": 8}, "weights, and there are 36,000"),
        ({"vocab_size": 10**9}, "weights, and there are 36,000"),
        ({"num_hidden_layers": 10**7}, "num_hidden_layers = 10000000"),
    ],
    ids=["wide", "words", "layers"],
)
def test_sizes_that_would_take_all_memory_are_refused(folder: Path, lie: dict[str, Any], said: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | lie))
    with pytest.raises(InputError, match=said):
        load(resolve(str(folder)), "float32")


@pytest.mark.parametrize("kind", [*tiny.KINDS, "qwen3", "gemma2"])
def test_honest_ones_pass(tmp_path: Path, kind: str) -> None:
    tiny.model(kind).save_pretrained(tmp_path)
    check_claims(tmp_path, "AutoModelForCausalLM")


def test_weights_that_are_not_finite_are_told_with_their_name(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 3] = torch.inf
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"not finite, first in model\.layers\.1\.mlp\.up_proj"):
        load(resolve(str(folder)), "float32")
