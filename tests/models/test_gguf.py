"""The embedded default model: what the conversion keeps of the GGUF file, and what the model says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from allmend.models import resolve
from allmend.models.loading import Loaded, load
from allmend.models.scoring import Scored, logprobs
from allmend.models.support import has_plain_head, why_no_packs

TEXT = (
    "The meadow above the village belongs to nobody and to everybody. In spring the gate is opened, and whoever keeps "
    "a cow may send it up; in autumn the cheese is weighed and shared by the milk that each animal gave. Nobody wrote "
    "the rules down for three hundred years, and they were kept."
)
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def loaded(model_cache: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLMEND_HOME", str(model_cache))
        yield load(resolve("gemma-3-270m"), "bfloat16")


@torch.inference_mode()
def loss(network: Any, ids: torch.Tensor) -> float:
    return float(cross_entropy(network(ids).logits[0, :-1].float(), ids[0, 1:]))


@pytest.mark.slow
def test_the_loss_is_that_of_the_file_itself(loaded: Loaded) -> None:
    """transformers' own reading of the GGUF in fp32, against the converted weights in fp32: 0.01 nats a token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    path = loaded.about.path
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    assert ids[0].tolist() == loaded.tokenizer(TEXT)["input_ids"]
    direct = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    wanted = loss(direct, ids)
    del direct
    stored = AutoModelForCausalLM.from_pretrained(loaded.folder, dtype=torch.float32)
    assert loss(stored, ids) == pytest.approx(wanted, abs=0.01)
    assert wanted < 5
    # In the precision it is used in, bf16, by the passes it is used with.
    tokens = ids[0].tolist()
    (found,) = logprobs(loaded.model, [Scored(tokens, 1)])
    assert -found / (len(tokens) - 1) == pytest.approx(wanted, abs=0.05)


def test_it_is_what_the_passes_are_made_for(loaded: Loaded) -> None:
    assert why_no_packs(loaded.model) is None and has_plain_head(loaded.model)
    assert loaded.template is None, "a base model"
    assert loaded.about.licence == "Gemma Terms of Use" and loaded.about.terms
    assert loaded.about.licence_file is not None and loaded.about.licence_file.is_file()
    assert loaded.about.digest in (loaded.folder / "allmend.json").read_text()


def test_it_knows_something(loaded: Loaded) -> None:
    prompt = loaded.tokenizer("The capital of France is")["input_ids"]
    right, wrong = (loaded.tokenizer(word, add_special_tokens=False)["input_ids"] for word in (" Paris", " Berlin"))
    scores = logprobs(loaded.model, [Scored([*prompt, *right], len(prompt)), Scored([*prompt, *wrong], len(prompt))])
    assert scores[0] > scores[1]
