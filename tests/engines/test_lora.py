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
