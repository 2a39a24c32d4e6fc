"""Two processes started by torchrun end where one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from allmend.tuning.optimiser import shares

SCRIPT = """
import sys
from pathlib import Path
from types import SimpleNamespace
import torch
import tiny
from allmend.adapters import LoraConfig, attach
from allmend.data import Tokens
from allmend.tuning import together
from allmend.tuning.loop import Plan, train
from allmend.tuning.whole import WholeModel
from safetensors.torch import save_file

together.join()
network = tiny.model("llama", initializer_range=0.1)
network.requires_grad_(False)
lora = WholeModel(network) if sys.argv[2] == "full" else attach(network, LoraConfig(rank=2), seed=0)
rows = [Tokens([5 + (place * 7 + i) % 250 for i in range(6 + place % 5)], bytes(4 + place % 5) + b"\\1\\1")
        for place in range(13)]
folder = Path(sys.argv[1]) / str(together.share([0, 1])[0] if together.processes() > 1 else 9)
folder.mkdir(parents=True)
loaded = SimpleNamespace(model=network, device=torch.device("cpu"))
rate = 1e-3 if sys.argv[2] == "full" else 1e-2
seen = []
stop = lambda: len(seen) == 3 and sys.argv[3:] == ["stop"]
try:
    train(loaded, lora, rows, rows[:3], Plan(steps=6, rate=rate, batch_rows=4), folder, seen.append, stop)
except KeyboardInterrupt:
    train(loaded, lora, rows, rows[:3], Plan(steps=6, rate=rate, batch_rows=4), folder)
save_file(lora.state(), folder / "end.safetensors")
if together.processes() > 1:
    torch.distributed.destroy_process_group()
"""


def run(folder: Path, *launcher: str, words: tuple[str, ...]) -> None:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    places = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", "ALLMEND_HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(folder), *words], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("words", [("lora",), ("full", "stop")], ids=["lora", "full"])
def test_two_processes_train_what_one_trains(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Of full fine-tuning each keeps the moments of half the weights, and a stop in the middle changes nothing."""
    run(tmp_path, words=words[:1])
    run(tmp_path, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", words=words)
    alone, first, second = (load_file(tmp_path / name / "end.safetensors") for name in ("9", "0", "1"))
    for name, tensor in alone.items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], tensor, rtol=1e-3, atol=1e-5)


def test_shares_are_even() -> None:
    sizes = [100, 90, 50, 40, 30, 20, 10, 10]
    owner = shares(sizes, 3)
    loads = [sum(size for size, one in zip(sizes, owner, strict=True) if one == number) for number in range(3)]
    assert sum(loads) == sum(sizes) and max(loads) - min(loads) <= 20
    assert owner == shares(sizes, 3)
