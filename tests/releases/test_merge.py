"""Merging by streams: exact, and small in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import small
import torch
from safetensors.torch import load_file, save_file

import tiny
from allmend import adapters, runs
from allmend.errors import InputError, Refused
from allmend.releases.merge import merge
from allmend.releases.safetensors_stream import read_header, shards


def test_the_sum_is_peft_s(place: Path) -> None:
    from peft import PeftModel

    adapter = runs.show(small.run(place, dtype=torch.float32)).output("adapter") or ""
    (place / "merged").mkdir()
    merge(place / "base", adapters.read(adapter), place / "merged")
    base = tiny.transformers.AutoModelForCausalLM.from_pretrained(place / "base", dtype=torch.float32)
    wanted = PeftModel.from_pretrained(base, adapter).merge_and_unload().state_dict()
    for name, value in load_file(place / "merged" / "model.safetensors").items():
        assert torch.allclose(value, wanted[name], atol=1e-6), name


def test_shards_keep_their_names_and_index(place: Path) -> None:
    adapter = adapters.read(runs.show(small.run(place)).output("adapter") or "")
    base = place / "base"
    network = tiny.transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    (base / "model.safetensors").unlink()
    network.save_pretrained(base, max_shard_size="40KB")
    (place / "merged").mkdir()
    merge(base, adapter, place / "merged")
    assert len(shards(place / "merged")) == len(shards(base)) > 1
    made = tiny.transformers.AutoModelForCausalLM.from_pretrained(place / "merged", dtype=torch.float32)
    name = "model.layers.1.mlp.up_proj"
    before = network.get_submodule(name).weight.float()
    a, b = adapter.modules[name]
    wanted = (before + adapter.config_of(name).scale * (b @ a)).bfloat16().float()
    assert torch.equal(made.get_submodule(name).weight, wanted)


def test_numbers_too_large_for_the_format_are_refused(place: Path) -> None:
    adapter = adapters.read(runs.show(small.run(place, dtype=torch.float16)).output("adapter") or "")
    huge = replace(adapter, alphas=dict.fromkeys(adapter.alphas, 1e9))
    (place / "merged").mkdir()
    with pytest.raises(Refused, match="overflows f16"):
        merge(place / "base", huge, place / "merged")


def test_an_adapter_of_another_base_is_refused(place: Path) -> None:
    adapter = adapters.read(runs.show(small.run(place)).output("adapter") or "")
    other = small.base(place / "other", hidden_size=48, num_attention_heads=4)
    (place / "merged").mkdir()
    with pytest.raises(InputError, match="in the adapter and"):
        merge(other, adapter, place / "merged")


def test_damaged_weights_are_errors_in_words(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(4, 4), "b": torch.zeros(2)}, path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:4], whole[:30], whole[:-4], whole + b"x", b"\xff" * 64, whole[:8] + b"[" * 40):
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            read_header(path)
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(InputError, match="does not lie where"):
        read_header(path)


def test_memory_stays_far_below_the_shard(place: Path) -> None:
    """A shard of 160 MiB, most of it one tensor: the growth of the process is held to a third of it."""
    adapter = runs.show(small.run(place)).output("adapter")
    base = place / "base"
    tensors = load_file(base / "model.safetensors")
    tensors["extra.weight"] = torch.zeros(80 << 20, dtype=torch.bfloat16)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    (place / "merged").mkdir()
    code = (
        "import re, sys; from pathlib import Path\n"
        "from allmend import adapters; from allmend.releases.merge import merge\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "weights = adapters.read(sys.argv[2]); before = peak()\n"
        "merge(Path(sys.argv[1]), weights, Path(sys.argv[3])); print(peak() - before)"
    )
    run = [sys.executable, "-c", code, str(base), str(adapter), str(place / "merged")]
    grown = int(subprocess.run(run, capture_output=True, text=True, check=True, timeout=300).stdout)
    assert grown < 56 << 10, f"{grown >> 10} MiB"
