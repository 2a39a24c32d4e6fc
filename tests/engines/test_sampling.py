"""The next token: which are kept, how often each is picked, what penalties and biases do."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allmend.engines.text import Sampling
from allmend.engines.torch.sampling import Sampler, pick_all, token_info


def picked(logits: torch.Tensor, count: int, **settings: object) -> Counter[int]:
    """Half by torch one at a time, half together, where compiled code draws what it knows."""
    sampler = Sampler(Sampling(seed=3, **settings))  # type: ignore[arg-type]
    found = Counter(sampler.pick(logits) for _ in range(count // 2))
    for _ in range((count - count // 2) // 5):
        found.update(pick_all([sampler] * 5, [logits] * 5))
    return found


def kept_by(probabilities: torch.Tensor, top_k: int, top_p: float) -> set[int]:
    """The definition, word for word: sort, keep k, keep the smallest prefix with mass top_p."""
    order = sorted(range(len(probabilities)), key=lambda token: -float(probabilities[token]))
    if top_k:
        order = order[:top_k]
    total = sum(float(probabilities[token]) for token in order)
    kept, mass = set(), 0.0
    for token in order:
        kept.add(token)
        mass += float(probabilities[token]) / total
        if mass >= top_p:
            break
    return kept


@given(st.integers(0, 40), st.sampled_from([0, 1, 2, 5, 100]), st.sampled_from([0.0, 0.3, 0.7, 0.95, 1.0]))
def test_only_tokens_of_the_nucleus_are_picked(seed: int, top_k: int, top_p: float) -> None:
    logits = torch.randn(30, generator=torch.Generator().manual_seed(seed)) * 2
    allowed = kept_by(logits.softmax(-1), top_k, top_p)
    assert set(picked(logits, 60, top_k=top_k, top_p=top_p)) <= allowed


def test_a_flat_distribution_wider_than_the_first_look_keeps_its_mass() -> None:
    logits = torch.zeros(4000)
    seen = picked(logits, 3000, top_p=0.9)
    assert len(seen) > 1800


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.999}, {"top_k": 6}, {"temperature": 2.0}])
def test_tokens_are_picked_as_often_as_they_are_likely(settings: dict[str, float]) -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, 0.5, -1.0, 1.5])
    wanted = (logits / settings.get("temperature", 1.0)).softmax(-1)
    seen = picked(logits, 6000, **settings)
    for token in range(6):
        assert seen[token] / 6000 == pytest.approx(float(wanted[token]), abs=0.025)


def test_tiny_temperatures_are_greedy_and_a_seed_repeats() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(1)) * 5
    assert set(picked(logits, 5, temperature=1e-30)) == {int(logits.argmax())}
    assert picked(logits, 20, temperature=1.3) == picked(logits, 20, temperature=1.3)


def test_penalties_count_what_was_generated() -> None:
    sampler = Sampler(Sampling(temperature=0, frequency_penalty=1.0))
    logits = torch.tensor([1.5, 1.0, 0.9])
    # Each pick lowers its own token by one: 0, then 1 (1.0 against 0.5), then 2, then 0 again.
    assert [sampler.pick(logits) for _ in range(4)] == [0, 1, 2, 0]
    assert logits.tolist() == pytest.approx([1.5, 1.0, 0.9])
    sampler = Sampler(Sampling(temperature=0, presence_penalty=2.0))
    assert [sampler.pick(logits) for _ in range(4)] == [0, 1, 2, 0]


def test_log_probabilities_are_of_the_untouched_logits() -> None:
    logits = torch.tensor([0.0, 2.0, 1.0])
    info = token_info(logits, 0, 2)
    assert info.logprob == pytest.approx(float(logits.log_softmax(-1)[0]))
    assert [token for token, _ in info.top] == [1, 2]
