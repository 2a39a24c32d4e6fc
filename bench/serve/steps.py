"""Steps by themselves, without HTTP: milliseconds a step by precision and number of answers, and prompts read.

python bench/serve/steps.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from allmend.engines.torch.native.build import library
from allmend.engines.torch.native.parts import parts_of
from allmend.engines.torch.native.runner import NativeRunner
from allmend.engines.torch.pages import Pages
from allmend.engines.torch.runner import Memory, Segment
from allmend.models.loading import load
from allmend.models.resolve import resolve

BATCHES = (1, 4, 8, 16, 32)


def one(runner: NativeRunner, ids: list[int], steps: int) -> dict[str, Any]:
    """Figures of one precision."""
    memory, times = Memory(), []
    runner.reserve(memory, 512)
    for _ in range(3):
        start = time.perf_counter()
        runner.run([Segment(memory, ids, 0, 1)])
        times.append(time.perf_counter() - start)
    runner.release(memory)
    found: dict[str, Any] = {"prompt_tokens_per_second": round(512 / min(times)), "mib": runner.nbytes // 2**20}
    for batch in BATCHES:
        memories = [Memory() for _ in range(batch)]
        for each in memories:
            runner.reserve(each, 100 + steps)
            runner.run([Segment(each, ids[:100], 0, 0)])
        times = []
        for place in range(steps):
            start = time.perf_counter()
            runner.run([Segment(each, [5 + place], 100 + place, 1, True) for each in memories])
            times.append(time.perf_counter() - start)
        for each in memories:
            runner.release(each)
        middle = statistics.median(times)
        found[f"batch {batch}"] = {
            "median_ms": round(1000 * middle, 2),
            "best_ms": round(1000 * min(times), 2),
            "tokens_per_second": round(batch / middle),
        }
    return found


def main() -> None:
    """Run and write the result."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true")
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    compiled, why = library()
    if compiled is None:
        raise SystemExit(why)
    model = load(resolve("gemma-3-270m"), dtype="bfloat16").model
    ids = torch.randint(0, 200_000, (512,), generator=torch.Generator().manual_seed(0)).tolist()
    found = {}
    for kind in ("int8",) if given.quick else ("int8", "int4", "bfloat16"):
        pages = Pages(32 * 16 + 40)
        runner = NativeRunner(model, parts_of(model), pages, compiled, kind=kind, context=2048)
        found[kind] = one(runner, ids, 5 if given.quick else 30)
        print(kind, json.dumps(found[kind]), flush=True)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "compiled": why,
        "threads": given.threads,
        "load": os.getloadavg(),
        "torch": torch.__version__,
        "results": found,
    }
    (Path(__file__).parent / "steps.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
