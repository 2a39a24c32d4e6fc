"""allmend's training against TRL's SFTTrainer with PEFT, on the same real rows; and each trick turned off.

    OMP_NUM_THREADS=1 python bench/tune/against.py [--steps 3] [--rounds 2] [--tricks]

Every side runs in a process of its own, in turns, on one thread; a step's cost is its CPU time, which other work on
the machine lengthens little, and the bf16 matmul peak is measured in the same process on the same clock. TRL is run at
its defaults and at the best settings found for a CPU (weights in bf16, no autocast, no gradient checkpointing).
The result goes to `against.json` beside this file; the first step of each process (caches, lazy set-up) is not
counted in the rates.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

from allmend.tuning.tricks import Tricks

HERE = Path(__file__).parent
ROWS = {"long": 8, "short": 16}
BODY = 100_270_080
"""Numbers in the decoder's matrices of Gemma 3 270M (18 layers)."""
LORA = 3_796_992
"""Numbers in its LoRA of rank 16 on all linear layers."""


def side(name: str, kind: str, steps: int) -> dict[str, Any]:
    """Run one side in a process of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        command = [sys.executable, str(HERE / "side.py"), name, kind, str(steps), str(ROWS[kind]), result.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(Path(result.name).read_text())
    counted = found["took"][1:]
    found["tokens_per_cpu_second"] = round(sum(one[2] for one in counted) / sum(one[0] for one in counted), 1)
    found["tokens_per_second_in_company"] = round(sum(one[2] for one in counted) / sum(one[1] for one in counted), 1)
    # Forward and input gradient of the frozen matrices, and three products with the LoRA's, two FLOP each.
    found["share_of_matmul_peak"] = round(
        found["tokens_per_cpu_second"] * (4 * BODY + 6 * LORA) / 1e9 / found["matmul_gflops"], 3
    )
    print(name, kind, found["tokens_per_cpu_second"], found["peak_mib"], found["losses"], flush=True)
    return found


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of one side's runs."""
    figures = ("tokens_per_cpu_second", "share_of_matmul_peak", "matmul_gflops", "peak_mib")
    return {name: statistics.median(run[name] for run in runs) for name in figures} | {"losses": runs[0]["losses"]}


def main() -> None:
    """Run all of it and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--default-rounds", type=int, default=1)
    parser.add_argument("--tricks", action="store_true", help="only each trick turned off")
    parser.add_argument("--kinds", nargs="+", choices=list(ROWS), default=list(ROWS))
    settings = parser.parse_args()
    target = HERE / ("tricks.json" if settings.tricks else "against.json")
    runs: dict[str, list[dict[str, Any]]] = {}
    if settings.tricks:
        names = ["allmend", *(f"allmend:{field.name}" for field in fields(Tricks)), "allmend-plain"]
    else:
        names = ["allmend", "trl-best", "trl-default"]
    for kind in settings.kinds:
        for turn in range(settings.rounds):
            for name in names:
                if name != "trl-default" or turn < settings.default_rounds:
                    runs.setdefault(f"{kind}/{name}", []).append(side(name, kind, settings.steps))
    result = {
        "command": " ".join(["OMP_NUM_THREADS=" + os.environ.get("OMP_NUM_THREADS", ""), "python", *sys.argv]),
        "machine": _machine(),
        "versions": {
            name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft", "trl", "accelerate")
        },
        "rows_a_step": ROWS,
        "summary": {name: summary(found) for name, found in runs.items()},
        "runs": runs,
    }
    target.write_text(json.dumps(result, indent=1) + "\n")


def _machine() -> dict[str, Any]:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "avx512_bf16": "avx512_bf16" in text,
        "load_before": os.getloadavg(),
    }


if __name__ == "__main__":
    main()
