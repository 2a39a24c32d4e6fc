"""Greedy tokens of the engine equal transformers' own, for the base and for each adapter merged into it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from allmend.engines.text import AdapterUse, Sampling, TextRequest
from allmend.engines.torch.lora import Lora
from allmend.engines.torch.scheduler import Limits
from allmend.engines.torch.setup import build_engine

ADAPTERS = ("a", "b", "c")


@cache
def setting(kind: str) -> tuple[Any, dict[str, Lora]]:
    base = tiny.model(kind)
    targets = (("q_proj", "v_proj", "down_proj"), ("o_proj", "gate_proj"), ("k_proj", "up_proj", "q_proj"))
    loras = {
        name: tiny.lora(base, seed=place, rank=3 + place, targets=targets[place]) for place, name in enumerate(ADAPTERS)
    }
    return base, loras


@cache
def expected(kind: str, uses: tuple[tuple[str, float], ...], prompt: tuple[int, ...], count: int) -> list[int]:
    base, loras = setting(kind)
    model = tiny.merged(base, *((loras[name], scale) for name, scale in uses)) if uses else base
    tokens = tiny.generate(model, list(prompt), count)
    return tokens[:-1] if tokens[-1] == 256 else tokens


def prompt_of(length: int, seed: int) -> tuple[int, ...]:
    return tuple((seed * 31 + place * place * 7 + place) % 250 for place in range(length))


request = st.tuples(
    st.sampled_from([(), (("a", 1.0),), (("b", 1.0),), (("c", 0.5),), (("a", 1.0), ("b", -0.5))]),
    st.sampled_from([1, 2, 7, 8, 9, 25, 40]),
    st.integers(0, 3),
    st.sampled_from([1, 5, 30]),
)


@pytest.mark.parametrize("kind", tiny.KINDS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    requests=st.lists(request, min_size=1, max_size=7),
    running=st.sampled_from([1, 2, 5]),
    chunk=st.sampled_from([3, 16, 512]),
    pages=st.sampled_from([12, 20, 200]),
    path=st.sampled_from(["native", "packed"]),
    later=st.lists(st.integers(0, 6), max_size=6),
)
def test_any_schedule_gives_the_tokens_of_transformers(
    kind: str, requests: list[Any], running: int, chunk: int, pages: int, path: Any, later: list[int]
) -> None:
    """Mixed adapters, chunks, more requests than run at once, and memory so small that sequences give theirs up."""
    base, loras = setting(kind)
    page_bytes = 2 * 8 * base.config.num_key_value_heads * 8 * 2 * 4
    engine = build_engine(
        base,
        tiny.tokenizer(),
        context=80,
        path=path,
        cache_bytes=pages * page_bytes,
        limits=Limits(running=running, chunk=chunk),
        page_size=8,
    )
    try:
        for name, lora in loras.items():
            engine.add_adapter(name, lora)
        asked = [
            TextRequest(
                prompt_of(length, seed),
                Sampling(max_tokens=count, temperature=0),
                tuple(AdapterUse(name, scale) for name, scale in uses),
            )
            for uses, length, seed, count in requests
        ]
        answers = engine.complete(asked)
        # Again, some of it in another order: now much of it is remembered.
        again = engine.complete([asked[place] for place in later if place < len(asked)])
    finally:
        engine.close()
    requests = [*requests, *(requests[place] for place in later if place < len(answers))]
    answers = [*answers, *again]
    for (uses, length, seed, count), answer in zip(requests, answers, strict=True):
        assert [token.id for token in answer.tokens] == expected(kind, uses, prompt_of(length, seed), count)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_plain_path_gives_the_tokens_of_transformers(kind: str) -> None:
    base, loras = setting(kind)
    engine = build_engine(base, tiny.tokenizer(), context=80, path="plain")
    try:
        engine.add_adapter("a", loras["a"])
        for uses in ((), (("a", 1.0),)):
            request = TextRequest(
                prompt_of(9, 1),
                Sampling(max_tokens=20, temperature=0),
                tuple(AdapterUse(name, scale) for name, scale in uses),
            )
            (answer,) = engine.complete([request])
            assert [token.id for token in answer.tokens] == expected(kind, uses, prompt_of(9, 1), 20)
    finally:
        engine.close()


def test_after_closing_the_base_is_as_it_was() -> None:
    base, loras = setting("llama")
    before = tiny.generate(base, [1, 2, 3], 10)
    engine = build_engine(base, tiny.tokenizer(), context=80)
    engine.add_adapter("a", loras["a"])
    use = (AdapterUse("a"),)
    engine.complete([TextRequest((1, 2, 3), Sampling(max_tokens=10, temperature=0), use)])
    engine.close()
    assert tiny.generate(base, [1, 2, 3], 10) == before
    assert not any(module._forward_hooks for module in base.modules())
