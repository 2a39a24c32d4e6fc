"""What a frozen base in fewer bits saves: real training steps on random weights in the shape of a 3B model.

    OMP_NUM_THREADS=1 python bench/tune/bits.py [--bits 4 8 16] [--steps 2]

Trains a few steps of a LoRA of rank 16 over long rows, with all layers, each base in a process of its own. Weights are
written to a folder a layer at a time and loaded from it as any model is; peaks are of the whole process, while loading
and while training. Each base's result is put into `bits.json` beside the others and into `docs/performance.md`.
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

import page
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
    parser.add_argument("--bits", type=int, nargs="+", choices=(4, 8, 16), default=[4, 8, 16])
    parser.add_argument("--layers", type=int, help="fewer than the shape has, to try it out")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "BITS"), help="used by the script itself")
    settings = parser.parse_args()
    if settings.one:
        print(json.dumps(one(settings.one[0], int(settings.one[1]), settings.steps)))
        return
    from against import machine, versions

    file = HERE / "bits.json"
    result = json.loads(file.read_text()) if file.is_file() else {}
    with tempfile.TemporaryDirectory() as where:
        model = str(folder(settings.shape, Path(where), settings.layers))
        for bits in settings.bits:
            result.setdefault("runs", {})[str(bits)] = {
                "command": " ".join(["OMP_NUM_THREADS=" + os.environ.get("OMP_NUM_THREADS", ""), "python", *sys.argv]),
                "shape": {settings.shape: SHAPES[settings.shape]},
                "layers": settings.layers or SHAPES[settings.shape]["num_hidden_layers"],
                **apart(model, bits % 16, settings.steps),
                "machine": machine() | {"load_after": os.getloadavg()},
                "versions": versions(),
            }
            if settings.layers is None:
                file.write_text(json.dumps(result, indent=1) + "\n")
                page.put("bits", table(result["runs"]))


def table(runs: dict[str, Any]) -> str:
    """Markdown."""
    names = ["base", "peak while training", "peak while loading", "tokens a CPU second", "loss of the first step"]
    return page.rows(
        names,
        [
            [
                f"{bits} bits",
                f"{runs[bits]['peak_mib']} MiB",
                f"{runs[bits]['peak_while_loading_mib']} MiB",
                f"{runs[bits]['tokens_per_cpu_second']:.0f}",
                f"{runs[bits]['losses'][0]:.3f}",
            ]
            for bits in sorted(runs, key=int)
        ],
    )


if __name__ == "__main__":
    main()
