"""Two processes started by torchrun end where one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

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
from safetensors.torch import save_file

together.join()
network = tiny.model("llama", initializer_range=0.1)
network.requires_grad_(False)
lora = attach(network, LoraConfig(rank=2), seed=0)
rows = [Tokens([5 + (place * 7 + i) % 250 for i in range(6 + place % 5)], bytes(4 + place % 5) + b"\\1\\1")
        for place in range(13)]
folder = Path(sys.argv[1]) / str(together.share([0, 1])[0] if together.processes() > 1 else 9)
folder.mkdir(parents=True)
loaded = SimpleNamespace(model=network, device=torch.device("cpu"))
train(loaded, lora, rows, rows[:3], Plan(steps=6, rate=1e-2, batch_rows=4), folder)
save_file(lora.state(), folder / "end.safetensors")
if together.processes() > 1:
    torch.distributed.destroy_process_group()
"""


def run(folder: Path, *launcher: str) -> None:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    places = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", "ALLMEND_HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(folder)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    run(tmp_path)
    run(tmp_path, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    alone, first, second = (load_file(tmp_path / name / "end.safetensors") for name in ("9", "0", "1"))
    for name, tensor in alone.items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], tensor, rtol=1e-3, atol=1e-5)
