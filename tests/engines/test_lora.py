"""What of an adapter can be served beside others."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest

import tiny
from allmend.adapters import read
from allmend.engines.torch.lora import from_weights
from allmend.errors import InputError


def test_a_dora_is_refused_not_served_as_a_lora(tmp_path: Path) -> None:
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], use_dora=True)
    peft.get_peft_model(tiny.model("llama"), config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="DoRA") as caught:
        from_weights(read(tmp_path))
    assert "Merge" in (caught.value.hint or "")
