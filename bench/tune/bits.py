"""What a frozen base in fewer bits saves, measured on random weights of a shape, and what follows for a 3B model.

    OMP_NUM_THREADS=1 python bench/tune/bits.py [--shape qwen2-3b] [--layers 4] [--steps 3]

Trains a few steps of a LoRA of rank 16 over long rows, with the base in bf16, 8 and 4 bits, each in a process of its
own, with as many layers as given; peaks are of the whole process after loading. Memory is a line in the number of
layers, so two depths give the peak of the whole shape; the script says that figure is computed. Writes `bits.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from shapes import SHAPES, folder

HERE = Path(__file__).parent


def one(model: str, bits: int, steps: int) -> dict[str, Any]:
    """Train in this process."""
    import torch
    from against import ROWS
    from content import rows as content
    from shapes import resolved

    from allmend.adapters import LoraConfig, attach
    from allmend.models.loading import load
    from allmend.tuning import memory
    from allmend.tuning.optimiser import AdamW
    from allmend.tuning.passes import Passes
    from allmend.tuning.tricks import Tricks

    loaded = load(resolved(model), "bfloat16", bits=bits or None)
    loading = memory.peak_memory(loaded.device)
    rows = content("long", ROWS["long"], vocabulary=loaded.model.config.vocab_size)
    lora = attach(loaded.model, LoraConfig(rank=16, alpha=32), seed=0)
    passes = Passes.of(loaded, lora, Tricks(), 2048)
    optimiser = AdamW(lora.parameters())
    loaded.model.train()
    memory.give_back()
    memory.forget_peak(loaded.device)
    losses, seconds = [], []
    for _ in range(steps):
        begin = time.process_time()
        packs = passes.packs(rows)
        learned = sum(pack.targets.numel() for pack in packs)
        total = 0.0
        for pack in packs:
            loss = passes.loss(pack) / learned
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(lora.parameters(), 1.0)
        optimiser.step(1e-4)
        passes.stepped()
        losses.append(total)
        seconds.append(time.process_time() - begin)
    return {
        "peak_mib": memory.peak_memory(loaded.device) >> 20,
        "peak_while_loading_mib": loading >> 20,
        "tokens_per_cpu_second": round(sum(map(len, rows)) / min(seconds), 1),
        "losses": losses,
        "layers": next(choice.value for choice in passes.choices if choice.name == "layers"),
    }


def apart(model: str, bits: int, steps: int) -> dict[str, Any]:
    """The same in a process of its own."""
    line = [sys.executable, __file__, "--one", model, str(bits), "--steps", str(steps)]
    answer = subprocess.run(line, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    print(Path(model).name, bits or 16, found, flush=True)
    return found


def main() -> None:
    """Run all of it and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=list(SHAPES), default="qwen2-3b")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "BITS"), help="used by the script itself")
    settings = parser.parse_args()
    if settings.one:
        print(json.dumps(one(settings.one[0], int(settings.one[1]), settings.steps)))
        return
    from against import machine, versions

    depths = (settings.layers // 2, settings.layers)
    whole = SHAPES[settings.shape]["num_hidden_layers"]
    runs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as where:
        for bits in (0, 8, 4):
            few, more = (
                apart(str(folder(settings.shape, Path(where), layers)), bits, settings.steps) for layers in depths
            )
            each = (more["peak_mib"] - few["peak_mib"]) / (depths[1] - depths[0])
            runs[f"{bits or 16} bits"] = {
                "layers_measured": depths,
                "measured": [few, more],
                "mib_a_layer": round(each, 1),
                "computed_peak_mib_of_all_layers": round(more["peak_mib"] + each * (whole - depths[1])),
                "loss_difference": None
                if not bits
                else more["losses"][0] - runs["16 bits"]["measured"][1]["losses"][0],
            }
    result = {
        "command": " ".join(["OMP_NUM_THREADS=" + os.environ.get("OMP_NUM_THREADS", ""), "python", *sys.argv]),
        "shape": {settings.shape: SHAPES[settings.shape]},
        "machine": machine() | {"load_after": os.getloadavg()},
        "versions": versions(),
        "runs": runs,
    }
    (HERE / "bits.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
