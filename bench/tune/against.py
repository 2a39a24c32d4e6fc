"""allmend's training against TRL's SFTTrainer with PEFT, on the same real rows, step by step in turns.

    OMP_NUM_THREADS=1 python bench/tune/against.py [--kinds long short] [--steps 4] [--shape qwen2-0.5b]

Every side is a process of its own; all are loaded first, then each takes one step, in turns, so that what disturbs the
machine disturbs all alike. The first step of each (caches, lazy set-up) is not counted; of the others the median of
the CPU time a token is taken, which other work lengthens little, and the wall-clock one is given beside it. The bf16
matmul peak is measured in each process on the same clock. TRL is run at its defaults and at the best settings found
for a CPU (weights in bf16, no autocast, no gradient checkpointing). All sides in memory together take about 13 GiB.
The result goes to `against.json` beside this file (`against-SHAPE.json` for random weights of a shape) and into the
table of `docs/performance.md`. With the defaults about five minutes for each kind of rows; `--kinds long` measures one
kind and leaves the other as it was.
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
from pathlib import Path
from typing import Any

import page
from shapes import SHAPES, folder

HERE = Path(__file__).parent
ROWS = {"long": 8, "short": 16}
SIDES = ("allmend", "trl-best", "trl-default")


def turns(kind: str, model: str, steps: int, sides: list[str]) -> dict[str, dict[str, Any]]:
    """All sides on one kind of rows, step by step in turns."""
    words = {name: [sys.executable, str(HERE / "side.py"), name, model, kind, str(steps), str(ROWS[kind])]
             for name in sides}  # fmt: skip
    running = {
        name: subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )
        for name, line in words.items()
    }
    took: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for step in range(steps):
        for name, process in running.items():
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("go\n")
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{name} ended: run `{' '.join(words[name])}` to see why")
            took[name].append(json.loads(line))
            print(
                kind, name, step, {key: round(value, 2) for key, value in took[name][-1].items() if value}, flush=True
            )
    found = {}
    for name, process in running.items():
        assert process.stdout is not None
        found[name] = summary(took[name], json.loads(process.stdout.readline()))
        process.wait()
    return found


def summary(took: list[dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
    """Medians over the counted steps."""
    counted = took[1:]
    rate = statistics.median(one["tokens"] / one["cpu"] for one in counted)
    found = {
        "tokens_per_cpu_second": round(rate, 1),
        "tokens_per_second": round(statistics.median(one["tokens"] / one["wall"] for one in counted), 1),
        "least_and_most": [round(find(one["tokens"] / one["cpu"] for one in counted), 1) for find in (min, max)],
        "counted_steps": len(counted),
        "losses": about.pop("losses", None) or [one["loss"] for one in took],
        **about,
    }
    if "body_weights" in about:
        # Forward and input gradient of the frozen matrices, and three products with the LoRA's, two FLOP each.
        work = 4 * about["body_weights"] + 6 * about["lora_weights"]
        found["share_of_matmul_peak"] = round(rate * work / 1e9 / about["matmul_gflops"], 3)
    return found


def main() -> None:
    """Run all of it and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4, help="of each side; the first is not counted")
    parser.add_argument("--kinds", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--sides", nargs="+", default=list(SIDES))
    parser.add_argument("--shape", choices=list(SHAPES), help="random weights of this shape")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md alone")
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as where:
        model = str(folder(settings.shape, Path(where))) if settings.shape else "gemma-3-270m"
        before = os.getloadavg()
        runs = {kind: turns(kind, model, settings.steps, settings.sides) for kind in settings.kinds}
    for kind, found in runs.items():
        for name, one in found.items():
            if name != "allmend" and "allmend" in found:
                ours = found["allmend"]
                one["factor"] = round(ours["tokens_per_cpu_second"] / one["tokens_per_cpu_second"], 1)
                one["share_of_memory"] = round(ours["peak_mib"] / one["peak_mib"], 2)
            print(kind, name, {key: one[key] for key in ("tokens_per_cpu_second", "peak_mib", "factor") if key in one})
    name = f"against-{settings.shape}.json" if settings.shape else "against.json"
    about = {
        "command": " ".join(["OMP_NUM_THREADS=" + os.environ.get("OMP_NUM_THREADS", ""), "python", *sys.argv]),
        "machine": machine() | {"load_before": before, "load_after": os.getloadavg()},
        "versions": versions(),
        "rows_a_step": ROWS,
    }
    # One kind of rows by itself leaves what was measured of the others, each with what it was measured by.
    result = json.loads((HERE / name).read_text()) if (HERE / name).is_file() else {}
    for kind in runs:
        result.setdefault("measured", {})[kind] = about
    result["model"] = settings.shape or "gemma-3-270m"
    result["runs"] = {kind: (result.get("runs", {}) | runs).get(kind) for kind in ROWS}
    result["runs"] = {kind: found for kind, found in result["runs"].items() if found}
    (HERE / name).write_text(json.dumps(result, indent=1) + "\n")
    if not settings.no_page:
        page.put(name.removesuffix(".json"), table(result["runs"]))


def table(runs: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Markdown."""
    names = ["rows", "side", "tokens a CPU second", "least and most", "factor", "of matmul peak", "peak memory",
             "ours of it", "losses"]  # fmt: skip
    lines = []
    for kind, found in runs.items():
        for name, one in found.items():
            share = one.get("share_of_matmul_peak")
            line = [
                f"{kind}, {ROWS[kind]} a step", name, f"{one['tokens_per_cpu_second']:.0f}",
                " to ".join(f"{value:.0f}" for value in one["least_and_most"]),
                f"{one['factor']}x" if "factor" in one else "", f"{share:.0%}" if share else "",
                f"{one['peak_mib']} MiB", f"{one['share_of_memory']:.0%}" if "share_of_memory" in one else "",
                ", ".join(f"{loss:.3f}" for loss in one["losses"]),
            ]  # fmt: skip
            lines.append(line)
    return page.rows(names, lines)


def versions() -> dict[str, str]:
    """Of what is compared."""
    names = ("torch", "transformers", "peft", "trl", "accelerate")
    return {name: importlib.metadata.version(name) for name in names}


def machine() -> dict[str, Any]:
    """Processor and cores."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "avx512_bf16": "avx512_bf16" in text,
    }


if __name__ == "__main__":
    main()
