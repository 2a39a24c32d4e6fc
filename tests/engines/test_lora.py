"""What of an adapter can be served beside others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import tiny
from allmend.adapters import read
from allmend.engines.text import AdapterUse, Sampling, TextRequest
from allmend.engines.torch.lora import from_weights
from allmend.engines.torch.setup import build_engine
from allmend.errors import InputError


def test_a_dora_is_refused_not_served_as_a_lora(tmp_path: Path) -> None:
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], use_dora=True)
    peft.get_peft_model(tiny.model("llama"), config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="DoRA") as caught:
        from_weights(read(tmp_path))
    assert "Merge" in (caught.value.hint or "")


def saved(folder: Path, model: Any) -> Path:
    torch.manual_seed(1)
    made = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"]))
    for name, weight in made.named_parameters():
        if "lora_" in name:
            weight.data.normal_(0, 0.3)
    made.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "changed",
    [{"lora_alpha": 64}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 90}}],
    ids=lambda each: next(iter(each)),
)
def test_the_same_tensors_scaled_otherwise_are_another_adapter(tmp_path: Path, changed: dict[str, Any]) -> None:
    one, other = saved(tmp_path / "one", tiny.model("llama")), tmp_path / "other"
    shutil.copytree(one, other)
    config = other / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changed))
    assert read(one).digest == read(other).digest and read(one).identity != read(other).identity
    prompt, greedy = tuple(range(1, 40)), Sampling(max_tokens=1, temperature=0, logprobs=0)

    def asked(*names: str) -> list[tuple[int, float | None, int]]:
        engine = build_engine(tiny.model("llama"), tiny.tokenizer(), context=80, page_size=8, path="packed")
        try:
            for name in names:
                engine.add_adapter(name, read(tmp_path / name))
            uses = [(AdapterUse(name),) for name in names]
            # In one step, then one after the other.
            answers = engine.complete([TextRequest(prompt[::-1], greedy, use) for use in uses])
            answers += [engine.complete([TextRequest(prompt, greedy, use)])[0] for use in uses]
            return [(each.tokens[0].id, round(each.tokens[0].logprob or 0, 4), each.usage.cached) for each in answers]
        finally:
            engine.close()

    alone = [*asked("one"), *asked("other")]
    assert asked("one", "other") == [alone[0], alone[2], alone[1], alone[3]]


@pytest.mark.parametrize("path", ["packed", "plain"])
def test_a_layer_that_gets_its_rows_without_the_first_dimension_is_changed_too(path: Any) -> None:
    """As OPT's and the shared experts of Qwen2-MoE do; here on both sides of a llama's layer."""
    model = tiny.model("llama")
    adapter = tiny.lora(model, seed=1, targets=("down_proj",))
    prompts, greedy = ([5, 9, 2, 7], [8, 3]), Sampling(max_tokens=6, temperature=0)
    wanted = [tiny.generate(tiny.merged(model, (adapter, 1.0)), prompt, 6) for prompt in prompts]
    shape: list[torch.Size] = []

    def flat(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        shape.append(inputs[0].shape)
        return (inputs[0].flatten(0, 1),)

    for layer in model.model.layers:
        layer.mlp.down_proj.register_forward_pre_hook(flat)
        layer.mlp.register_forward_hook(lambda _, inputs, output: output.view(inputs[0].shape))
    engine = build_engine(model, tiny.tokenizer(), context=64, page_size=8, path=path)
    try:
        engine.add_adapter("a", adapter)
        answers = engine.complete([TextRequest(tuple(prompt), greedy, (AdapterUse("a"),)) for prompt in prompts])
        assert shape and [[token.id for token in each.tokens] for each in answers] == [
            [token for token in tokens if token != 256] for tokens in wanted
        ]
    finally:
        engine.close()


def test_a_layer_that_sees_other_rows_than_the_step_fails_its_own_users_alone() -> None:
    model = tiny.model("llama")
    layer = model.model.layers[0].mlp
    layer.down_proj.register_forward_pre_hook(lambda _, inputs: (torch.cat([inputs[0], inputs[0]], dim=1),))
    layer.register_forward_hook(lambda _, inputs, output: output[:, : inputs[0].shape[1]])
    engine = build_engine(model, tiny.tokenizer(), context=64, page_size=8, path="packed")
    try:
        engine.add_adapter("a", tiny.lora(model, seed=1, targets=("down_proj",)))
        greedy = Sampling(max_tokens=3, temperature=0)
        fine, failed = engine.complete([TextRequest((5, 6), greedy), TextRequest((5, 6), greedy, (AdapterUse("a"),))])
        assert fine.finish == "length" and failed.finish == "error" and "one by one" in (failed.error or "")
    finally:
        engine.close()
