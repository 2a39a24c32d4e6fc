"""llama.cpp as an engine, on the real file: right for each adapter, whoever used the slot before."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from allmend.adapters import AdapterWeights
from allmend.adapters.config import LoraConfig
from allmend.engines import constraint
from allmend.engines.choose import choose
from allmend.engines.llamacpp.engine import LlamaCppEngine
from allmend.engines.text import AdapterUse, Completion, Sampling, TextRequest
from allmend.engines.torch.setup import build_engine
from allmend.errors import DoesNotFit, NotFound, Unavailable, UsageError

GREEDY = Sampling(max_tokens=8, temperature=0, logprobs=3)


def adapter(model: Any, seed: int) -> AdapterWeights:
    numbers = torch.Generator().manual_seed(seed)
    modules = {
        name: (
            torch.randn(8, module.in_features, generator=numbers) * 0.03,
            torch.randn(module.out_features, 8, generator=numbers) * 0.03,
        )
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.endswith("lm_head")
    }
    return AdapterWeights(
        Path(),
        LoraConfig(rank=8, alpha=16),
        "",
        None,
        f"digest-{seed}",
        modules,
        dict.fromkeys(modules, 16.0),
        None,
        None,
    )


def assert_same_where_sure(answer: Completion, alone: Completion) -> None:
    """Who is computed beside decides how sums are rounded: the first other token has to be as good as the one alone."""
    for mine, other in zip(answer.tokens, alone.tokens, strict=True):
        if mine.id != other.id:
            chances = dict(other.top)
            assert chances[other.id] - chances[mine.id] < 0.1
            return


@pytest.mark.model
@pytest.mark.slow
def test_each_adapter_answers_as_itself_and_as_in_our_engine(model: Any) -> None:
    prompt = tuple(model.tokenizer("The capital of France is")["input_ids"])
    theirs = LlamaCppEngine(model.about.path, context=128, parallel=2, threads=1, vocabulary=len(model.tokenizer))
    ours = build_engine(model.model, model.tokenizer, context=128, weights="float32")

    def first(answer: Completion) -> dict[int, float]:
        return dict(answer.tokens[0].top)

    uses: list[tuple[AdapterUse, ...]] = [(), (AdapterUse("a"),), (AdapterUse("b"),), (AdapterUse("a", 0.5),)]
    try:
        for name, seed in (("a", 1), ("b", 2)):
            theirs.add_adapter(name, adapter(model.model, seed))
            ours.add_adapter(name, adapter(model.model, seed))
        alone = [theirs.complete([TextRequest(prompt, GREEDY, use)])[0] for use in uses]
        wanted = ours.complete([TextRequest(prompt, GREEDY, use) for use in uses])
        for mine, reference in zip(alone, wanted, strict=True):
            for token in first(mine).keys() & first(reference).keys():
                # llama.cpp rounds what it multiplies to eight bits.
                assert first(mine)[token] == pytest.approx(first(reference)[token], abs=0.6)
            assert first(mine).keys() & first(reference).keys()
        order = [2, 0, 1, 1, 3, 0, 2, 3]
        mixed = theirs.complete([TextRequest(prompt, GREEDY, uses[place]) for place in order])
        for place, answer in zip(order, mixed, strict=True):
            assert answer.finish == "length"
            assert_same_where_sure(answer, alone[place])
            assert answer.usage.cached == 0
        assert len({answer.text for answer in alone[:3]}) == 3
        with pytest.raises(NotFound):
            theirs.submit(TextRequest(prompt, GREEDY, (AdapterUse("c"),)), lambda piece: None)
        with pytest.raises(DoesNotFit):
            theirs.submit(TextRequest(prompt * 40, GREEDY), lambda piece: None)
        with pytest.raises(UsageError):
            theirs.score(prompt, [(1,)])
        stop = Sampling(max_tokens=30, temperature=0, stop=(" capital",))
        (stopped,) = theirs.complete([TextRequest(prompt, stop)])
        assert stopped.finish == "stop" and " capital" not in stopped.text
        grammar = constraint.of_schema({"type": "boolean"})
        (boolean,) = theirs.complete([TextRequest(prompt, Sampling(max_tokens=8, temperature=0, grammar=grammar))])
        assert boolean.text.strip() in ("true", "false")
        lark = constraint.of_lark('start: "<call>" inner "</call>"\ninner: %json {"enum": ["yes", "no"]}\n')
        (marked,) = theirs.complete([TextRequest(prompt, Sampling(max_tokens=30, temperature=0, grammar=lark))])
        assert marked.text in ('<call>"yes"</call>', '<call>"no"</call>')
    finally:
        theirs.close()
        ours.close()


def test_the_engine_is_chosen_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(
        asked: Any = "auto", format: str = "gguf", cuda: bool = False, compiled: bool = True, known: bool = True
    ) -> str:
        found = choose(
            asked, format=format, cuda=cuda, compiled=(compiled, "there is no C++ compiler"), architecture_known=known
        )
        assert found.reason
        return str(found.value)

    installed = {"xllamacpp"}
    monkeypatch.setattr("allmend.engines.choose.find_spec", lambda name: name if name in installed else None)
    assert chosen() == "torch"
    assert chosen(compiled=False) == chosen(known=False) == "llamacpp"
    assert chosen(format="safetensors", compiled=False) == "torch"
    assert chosen(format="safetensors", cuda=True) == "torch"
    assert chosen("llamacpp") == "llamacpp"
    installed |= {"vllm"}
    assert chosen(format="safetensors", cuda=True) == "vllm"
    installed -= {"xllamacpp", "vllm"}
    assert chosen(compiled=False) == "torch"


def test_vllm_says_when_it_is_not_there() -> None:
    if importlib.util.find_spec("vllm") is None:
        from allmend.engines.vllm.engine import VllmEngine

        with pytest.raises(Unavailable, match="not installed"):
            VllmEngine(Path("x"), context=16, parallel=1, slots=1)
