"""Compiled steps: every precision, with and without the processor's own instructions, and nobody disturbs anybody."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from allmend.engines.torch.lora import Lora
from allmend.engines.torch.native.build import library
from allmend.engines.torch.native.parts import parts_of
from allmend.engines.torch.native.runner import NativeRunner
from allmend.engines.torch.native.weights import tiled
from allmend.engines.torch.pages import Pages
from allmend.engines.torch.runner import Memory, Segment
from allmend.engines.torch.setup import packed_difference
from allmend.models.norms import Unlike

KINDS = ("float32", "bfloat16", "int8", "int4")
LARGEST = {"float32": 1e-5, "bfloat16": 0.04, "int8": 0.1, "int4": 0.9}


def runner(model: Any, kind: str, *defines: str) -> NativeRunner:
    compiled, why = library(*defines)
    assert compiled is not None, why
    return NativeRunner(model, parts_of(model), Pages(24, size=8), compiled, kind=kind, context=96)


@pytest.mark.parametrize("family", [*tiny.KINDS, "qwen3"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_precision_is_close_to_transformers(family: str, kind: str) -> None:
    model = tiny.model(family)
    assert packed_difference(model, runner(model, kind)) < LARGEST[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_processors_own_instructions_it_is_the_same(kind: str) -> None:
    model = tiny.model("llama", hidden_size=64, intermediate_size=96)
    segments = [Segment(Memory(), [3, 7, 11, 13, 17], 0, 5)]
    answers = []
    for defines in ((), ("PORTABLE",)):
        made = runner(model, kind, *defines)
        assert made.reserve(segments[0].memory, 5)
        answers.append(made.run(segments)[0].clone())
        segments[0].memory.pages = []
    # bf16 products are rounded in another order; whole numbers are exact.
    assert torch.allclose(answers[0], answers[1], rtol=1e-4, atol=1e-3 if kind == "bfloat16" else 1e-5)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(
    others=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 12)), max_size=7),
    cut=st.integers(1, 10),
    threads=st.sampled_from([1, 2]),
)
def test_an_answer_is_the_same_bit_for_bit_whoever_is_beside_it(
    kind: str, others: list[tuple[int, int]], cut: int, threads: int
) -> None:
    """Also with its prompt in two chunks, and with another number of threads."""
    model = tiny.model("gemma3")
    loras: list[Lora] = [tiny.lora(model, seed=seed, rank=3 + seed) for seed in range(3)]
    prompt = [5, 9, 2, 7, 1, 8, 3, 6, 4, 11, 12]
    alone, crowd = runner(model, kind), runner(model, kind)
    mine = Memory(((loras[0], 1.0),))
    assert alone.reserve(mine, len(prompt))
    wanted = alone.run([Segment(mine, prompt, 0, 1)])[0].clone()
    again = Memory(((loras[0], 1.0),))
    assert crowd.reserve(again, len(prompt))
    crowd.threads = threads
    beside = []
    for place, count in others:
        memory = Memory(((loras[place], 0.5),) if place else ())
        assert crowd.reserve(memory, count)
        beside.append(Segment(memory, [(place * 7 + each) % 250 for each in range(count)], 0, 1))
    crowd.run([*beside, Segment(again, prompt[:cut], 0, 0)])
    found = crowd.run([Segment(again, prompt[cut:], cut, 1), *beside])[0]
    assert torch.equal(found, wanted)


def test_the_best_token_needs_no_logits() -> None:
    model = tiny.model("qwen2")
    made = runner(model, "int8")
    memory = Memory()
    assert made.reserve(memory, 3)
    logits = made.run([Segment(memory, [1, 2, 3], 0, 1)])[0][0].clone()
    made.run([Segment(memory, [1, 2, 3], 0, 1, best_only=True)])
    assert made.best == [(int(logits.argmax()), float(logits.max()))]


@pytest.mark.parametrize("kind", KINDS)
def test_rounded_weights_are_as_near_as_their_bits_allow(kind: str) -> None:
    weight = torch.randn(40, 100, generator=torch.Generator().manual_seed(1))
    made = tiled([weight], kind, [torch.ones(40)])
    assert (made.rows, made.columns) == (40, 100)
    bits = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 4}[kind]
    filled = 48 * (100 + {"float32": 0, "bfloat16": 0, "int8": 28, "int4": 28}[kind])
    assert made.data.nbytes == filled * bits // 8


def test_another_family_says_in_what_it_differs() -> None:
    with pytest.raises(Unlike, match="softcap"):
        parts_of(tiny.model("gemma2"))
    with pytest.raises(Unlike, match="rotary"):
        parts_of(tiny.model("smollm3", no_rope_layers=[1, 0], pad_token_id=2))
    parts_of(tiny.model("smollm3", no_rope_layers=[1, 1], pad_token_id=1))
    with pytest.raises(Unlike):
        parts_of(tiny.recurrent())
