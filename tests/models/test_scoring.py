"""Log-probabilities against transformers' own full logits."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from allmend.models.scoring import Scored, label_logprobs, logprobs

TOKENS = st.integers(0, 255)
KINDS = ("llama", "gemma3", "mistral", "gemma2")


@cache
def model(kind: str) -> Any:
    return tiny.recurrent() if kind == "mamba" else tiny.model(kind)


@torch.inference_mode()
def by_hand(network: Any, ids: list[int], start: int) -> float:
    logits = network(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
    return float(sum(logits[place - 1, ids[place]] for place in range(start, len(ids))))


@st.composite
def scored(draw: st.DrawFn) -> Scored:
    ids = draw(st.lists(TOKENS, min_size=2, max_size=60))
    return Scored(ids, draw(st.integers(1, len(ids))))


@pytest.mark.parametrize("kind", [*KINDS, "mamba"])
@given(rows=st.lists(scored(), min_size=1, max_size=6), pack=st.integers(1, 200), logits=st.integers(1, 70))
@settings(max_examples=10, deadline=None)
def test_logprobs_are_those_of_full_logits(kind: str, rows: list[Scored], pack: int, logits: int) -> None:
    found = logprobs(model(kind), rows, pack_tokens=pack, logit_rows=logits)
    wanted = [by_hand(model(kind), list(row.ids), row.start) for row in rows]
    assert found == pytest.approx(wanted, rel=2e-4, abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
@given(
    prompts=st.lists(st.lists(TOKENS, min_size=1, max_size=40), min_size=1, max_size=5),
    labels=st.lists(st.lists(TOKENS, min_size=1, max_size=3), min_size=1, max_size=4),
    single=st.booleans(),
)
@settings(max_examples=10, deadline=None)
def test_labels_are_scored_after_each_prompt(
    kind: str, prompts: list[list[int]], labels: list[list[int]], single: bool
) -> None:
    labels = [label[:1] for label in labels] if single else labels
    found = label_logprobs(model(kind), prompts, labels)
    assert len(found) == len(prompts)
    for prompt, scores in zip(prompts, found, strict=True):
        wanted = [by_hand(model(kind), prompt + label, len(prompt)) for label in labels]
        assert scores == pytest.approx(wanted, rel=2e-4, abs=2e-3)


def test_one_token_labels_take_one_pass_a_prompt_and_agree_with_the_long_way() -> None:
    network, prompts = model("llama"), [[1, 2, 3], [4], [5, 6, 7, 8]]
    passes = []
    hook = network.base_model.register_forward_hook(lambda *_: passes.append(1))
    short = label_logprobs(network, prompts, [[9], [10]])
    hook.remove()
    assert len(passes) <= 3  # the tries of packing and head aside, one for all
    long = [[by_hand(network, [*prompt, token], len(prompt)) for token in (9, 10)] for prompt in prompts]
    for row, wanted in zip(short, long, strict=True):
        assert row == pytest.approx(wanted, rel=1e-4, abs=1e-3)


def test_nothing_to_score_is_zero() -> None:
    assert logprobs(model("llama"), []) == []
    assert logprobs(model("llama"), [Scored([1, 2], 2)]) == [0.0]
    assert label_logprobs(model("llama"), [], [[1]]) == []
