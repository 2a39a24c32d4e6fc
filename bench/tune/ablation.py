"""Each trick of training turned off, and each option of a LoRA turned on: speed, memory, and whether the loss is equal.

    OMP_NUM_THREADS=1 python bench/tune/ablation.py [--parts speed bits memory] [--rounds 1] [--kind long]

Speed: one process, one model in memory; in each round every variant takes one uncounted and one counted step over the
same rows with the same adapter weights, so that all see the machine in the same state. CPU seconds; medians over
rounds. Memory is the peak resident size of training, everything included, each variant in a process of its own, since
what one leaves behind would count for the next. Every round, and every peak, is put into `ablation.json` as soon as it
is there, and the next call adds to it; `--fresh` begins anew. A round takes about two minutes of a core, all peaks
four. Writes the table in `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import page
import torch
from against import ROWS, machine, versions
from content import rows as content
from shapes import resolved

from allmend.adapters import LoraConfig, attach, detach
from allmend.models.loading import Loaded, load
from allmend.tuning import memory
from allmend.tuning.passes import Passes
from allmend.tuning.tricks import Tricks

FILE = Path(__file__).with_suffix(".json")
CONFIG = LoraConfig(rank=16, alpha=32)

Variant = tuple[str, Tricks, dict[str, Any], bool]
"""Name, tricks, changes to the LoRA, whether activations are made again."""


def variants() -> list[Variant]:
    """What is compared; the first is what the others are compared with."""
    off = [(f"without {field.name}", Tricks.without(field.name), {}, False) for field in fields(Tricks)]
    return [
        ("all on", Tricks(), {}, False),
        *off,
        ("without any", Tricks.none(), {}, False),
        ("activations made again", Tricks(), {}, True),
        ("with dropout 0.1", Tricks(), {"dropout": 0.1}, False),
        ("with dora", Tricks(), {"dora": True}, False),
    ]


def measured(loaded: Loaded, variant: Variant, rows: list[Any]) -> dict[str, float]:
    """One uncounted and one counted step."""
    _, tricks, changes, again = variant
    lora = attach(loaded.model, CONFIG.model_copy(update=changes), seed=0)
    # B is zero at first, which would hide what a trick does to it.
    generator = torch.Generator().manual_seed(0)
    for layer in lora.layers.values():
        layer.lora_b.data.normal_(0, 0.01, generator=generator)
    passes = Passes.of(loaded, lora, tricks, 2048)
    if again:
        passes.recompute("measured")
    try:
        loaded.model.train()
        packs = passes.packs(rows)
        _step(passes, packs)
        begin = time.process_time()
        loss, norm = _step(passes, packs)
        seconds = time.process_time() - begin
    finally:
        passes.close()
        detach(loaded.model, lora)
        loaded.model.eval()
    return {"seconds": seconds, "loss": loss, "norm": norm}


def peak(name: str, kind: str) -> int:
    """MiB at the peak of a variant's training, in a process of its own."""
    line = [sys.executable, __file__, "--peak", name, "--kind", kind]
    answer = subprocess.run(line, check=True, capture_output=True, text=True)
    print(name, answer.stdout.strip(), "MiB", flush=True)
    return int(answer.stdout)


def peak_here(name: str, kind: str) -> int:
    """The same in this process."""
    bits = int(name.split()[2]) if name.startswith("base in") else None
    loaded = load(resolved("gemma-3-270m"), "bfloat16", bits=bits)
    memory.give_back()
    memory.forget_peak(loaded.device)
    known = {one[0]: one for one in variants()}
    measured(loaded, known.get(name, (name, Tricks(), {}, False)), content(kind, ROWS[kind]))
    return memory.peak_memory(loaded.device) >> 20


def _step(passes: Passes, packs: list[Any]) -> tuple[float, float]:
    total = 0.0
    for pack in packs:
        loss = passes.loss(pack)
        loss.backward()
        total += float(loss.detach())
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in passes.lora.parameters()])
    for weight in passes.lora.parameters():
        weight.grad = None
    return total / sum(pack.targets.numel() for pack in packs), float(norm)


def rounds(work: dict[str, Callable[[], dict[str, float]]], result: dict[str, Any], part: str, count: int) -> None:
    """Rounds in which every variant has its turn, added to what is there."""
    for _ in range(count):
        turn = {}
        for name, take in work.items():
            turn[name] = take()
            print(part, name, {key: round(value, 3) for key, value in turn[name].items()}, flush=True)
        result.setdefault(part, []).append({"load": os.getloadavg(), "steps": turn})
        save(result)


def save(result: dict[str, Any]) -> None:
    """Write what there is."""
    FILE.write_text(json.dumps(result, indent=1) + "\n")


def told(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Medians over the rounds; a base in fewer bits is compared with the same round's bf16 beside it."""
    found = []
    for part, first in (("speed", "all on"), ("bits", "base in 16 bits")):
        turns = [turn["steps"] for turn in result.get(part, [])]
        for name in turns[0] if turns else ():
            if name == "base in 16 bits":
                continue
            own = [turn[name] for turn in turns]
            found.append(
                {
                    "variant": name,
                    "tokens_per_cpu_second": round(result["tokens"] / statistics.median(one["seconds"] for one in own)),
                    "of_all_on": round(
                        statistics.median(turn[first]["seconds"] / turn[name]["seconds"] for turn in turns), 3
                    ),
                    "loss": own[-1]["loss"],
                    "loss_difference": own[-1]["loss"] - turns[-1][first]["loss"],
                    "gradient_norm": own[-1]["norm"],
                    "peak_mib": result.get("memory", {}).get(name),
                }
            )
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Markdown."""
    names = ["variant", "tokens a CPU second", "of all on", "peak memory", "loss", "its difference", "gradient's norm"]
    return page.rows(
        names,
        [
            [
                one["variant"],
                f"{one['tokens_per_cpu_second']:.0f}",
                f"{one['of_all_on']:.0%}",
                f"{one['peak_mib']} MiB" if one["peak_mib"] else "",
                f"{one['loss']:.4f}",
                f"{one['loss_difference']:+.4f}",
                f"{one['gradient_norm']:.3f}",
            ]
            for one in found
        ],
    )


def main() -> None:
    """Add to the result, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=list(ROWS), default="long")
    parser.add_argument("--parts", nargs="+", choices=("speed", "bits", "memory"), default=["speed", "bits", "memory"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--peak", metavar="VARIANT", help="used by the script itself")
    settings = parser.parse_args()
    if settings.peak:
        print(peak_here(settings.peak, settings.kind))
        return
    result = json.loads(FILE.read_text()) if FILE.is_file() and not settings.fresh else {}
    loaded = load(resolved("gemma-3-270m"), "bfloat16")
    rows = content(settings.kind, ROWS[settings.kind])
    result |= {
        "command": " ".join(["OMP_NUM_THREADS=" + os.environ.get("OMP_NUM_THREADS", ""), "python", *sys.argv]),
        "machine": machine(),
        "versions": versions(),
        "rows": f"{len(rows)} {settings.kind} rows",
        "tokens": sum(map(len, rows)),
    }
    if "speed" in settings.parts:
        work = {one[0]: partial(measured, loaded, one, rows) for one in variants()}
        rounds(work, result, "speed", settings.rounds)
    fewer = [f"base in {bits} bits" for bits in (8, 4)]
    if "bits" in settings.parts:
        models = {"base in 16 bits": loaded} | {
            name: load(resolved("gemma-3-270m"), "bfloat16", bits=int(name.split()[2])) for name in fewer
        }
        work = {name: partial(measured, one, (name, Tricks(), {}, False), rows) for name, one in models.items()}
        rounds(work, result, "bits", settings.rounds)
        del models, work
    del loaded
    if "memory" in settings.parts:
        for name in [*(one[0] for one in variants()), *fewer]:
            if name not in result.setdefault("memory", {}):
                result["memory"][name] = peak(name, settings.kind)
                save(result)
    result["variants"] = told(result)
    save(result)
    page.put("ablation", table(result["variants"]))
    print(table(result["variants"]))


if __name__ == "__main__":
    main()
