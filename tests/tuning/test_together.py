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
from allmend.adapters import LoraConfig, attach, detach
from allmend.data import Tokens
from allmend.tuning import together
from allmend.tuning.divided import DividedModel, divide
from allmend.tuning.loop import Plan, train
from allmend.tuning.passes import Passes
from allmend.tuning.tricks import Tricks
from allmend.tuning.whole import WholeModel
from safetensors.torch import save_file

together.join()
network = tiny.model("llama", initializer_range=0.1)
network.requires_grad_(False)
what, shard = sys.argv[2:4]
divided = divide(network, torch.float32, learned=False) if (what, shard) == ("lora", "all") else None
if what == "full":
    lora = DividedModel(network, torch.float32) if shard == "all" else WholeModel(network)
else:
    lora = attach(network, LoraConfig(rank=2), seed=0)
rows = [Tokens([5 + (place * 7 + i) % 250 for i in range(6 + place % 5)], bytes(4 + place % 5) + b"\\1\\1")
        for place in range(13)]
folder = Path(sys.argv[1]) / str(together.share([0, 1])[0] if together.processes() > 1 else 9)
folder.mkdir(parents=True)
loaded = SimpleNamespace(model=network, device=torch.device("cpu"))
# Five rows a batch: one process has a pack more than the other.
plan = Plan(steps=6, rate=1e-3 if what == "full" else 1e-2, batch_rows=5, pack_tokens=16,
            share_moments=shard == "optimiser", recompute=shard == "all")
passes = Passes.of(loaded, lora, Tricks(), plan.pack_tokens, divided)
seen = []
stop = lambda: len(seen) == 3 and sys.argv[4:] == ["stop"]
try:
    train(loaded, lora, rows, rows[:3], plan, folder, seen.append, stop, passes)
except KeyboardInterrupt:
    train(loaded, lora, rows, rows[:3], plan, folder, None, lambda: False, passes)
end = lora.state()
if shard == "all":
    if what == "lora":
        detach(network, lora)
    # In one piece again: what was learned, or what was there before.
    model = divided.gathered(torch.float32) if divided else lora.gathered()
    assert model(torch.tensor([rows[0].ids])).logits.isfinite().all()
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    if what == "full":
        end = weights
    else:
        before = dict(tiny.model("llama", initializer_range=0.1).named_parameters())
        assert all(torch.equal(weight, before[name]) for name, weight in weights.items())
save_file(end, folder / "end.safetensors")
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


@pytest.mark.parametrize(
    "words",
    [("lora", "none"), ("lora", "all"), ("full", "optimiser", "stop"), ("full", "all", "stop")],
    ids=" ".join,
)
def test_two_processes_train_what_one_trains(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Whatever they divide among them: nothing, the moments, or weights and gradients too. A stop in the middle
    changes nothing."""
    run(tmp_path, words=(words[0], "none"))
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
