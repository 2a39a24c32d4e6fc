"""Each trick of training turned off, and each option of a LoRA turned on: speed, memory, and whether the loss is equal.

    OMP_NUM_THREADS=1 python bench/tune/ablation.py [--kind long] [--rounds 3]

One process, one model in memory; in each round every variant takes one uncounted and one counted step over the same
rows with the same adapter weights, so that all see the machine in the same state. CPU seconds; medians over rounds.
Memory is the peak resident size of training, everything included, each variant in a process of its own, since what one
leaves behind would count for the next. Writes `ablation.json` beside this file and the table in `docs/performance.md`.
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

HERE = Path(__file__).parent
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


def compared(work: dict[str, Callable[[], dict[str, float]]], rounds: int, tokens: int) -> list[dict[str, Any]]:
    """Medians over rounds in which every variant has its turn."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in work}
    for turn in range(rounds):
        for name, take in work.items():
            runs[name].append(take())
            print(turn, name, {key: round(value, 3) for key, value in runs[name][-1].items()}, flush=True)
    first = next(iter(runs.values()))
    found = []
    for name, some in runs.items():
        seconds = statistics.median(one["seconds"] for one in some)
        found.append(
            {
                "variant": name,
                "tokens_per_cpu_second": round(tokens / seconds, 1),
                "of_all_on": round(
                    statistics.median(a["seconds"] / b["seconds"] for a, b in zip(first, some, strict=True)), 3
                ),
                "loss": some[-1]["loss"],
                "loss_difference": some[-1]["loss"] - first[-1]["loss"],
                "gradient_norm": some[-1]["norm"],
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
                f"{one['peak_mib']:.0f} MiB",
                f"{one['loss']:.4f}",
                f"{one['loss_difference']:+.4f}",
                f"{one['gradient_norm']:.3f}",
            ]
            for one in found
        ],
    )


def main() -> None:
    """Run all of it, write the result and the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=list(ROWS), default="long")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-page", action="store_true", help="leave the page alone")
    parser.add_argument("--peak", metavar="VARIANT", help="used by the script itself")
    settings = parser.parse_args()
    if settings.peak:
        print(peak_here(settings.peak, settings.kind))
        return
    loaded = load(resolved("gemma-3-270m"), "bfloat16")
    rows = content(settings.kind, ROWS[settings.kind])
    work = {one[0]: partial(measured, loaded, one, rows) for one in variants()}
    before = os.getloadavg()
    found = compared(work, settings.rounds, sum(map(len, rows)))
    del loaded, work
    for bits in (8, 4):
        fewer = load(resolved("gemma-3-270m"), "bfloat16", bits=bits)
        take = partial(measured, fewer, (f"base in {bits} bits", Tricks(), {}, False), rows)
        some = compared({f"base in {bits} bits": take}, settings.rounds, sum(map(len, rows)))[0]
        some["of_all_on"] = round(some["tokens_per_cpu_second"] / found[0]["tokens_per_cpu_second"], 3)
        some["loss_difference"] = some["loss"] - found[0]["loss"]
        found.append(some)
        del fewer, take
    for one in found:
        one["peak_mib"] = peak(one["variant"], settings.kind)
    result = {
        "command": " ".join(["OMP_NUM_THREADS=" + os.environ.get("OMP_NUM_THREADS", ""), "python", *sys.argv]),
        "machine": machine() | {"load_before": before, "load_after": os.getloadavg()},
        "versions": versions(),
        "rows": f"{len(rows)} {settings.kind} rows, {sum(map(len, rows))} tokens",
        "rounds": settings.rounds,
        "variants": found,
    }
    (HERE / "ablation.json").write_text(json.dumps(result, indent=1) + "\n")
    if not settings.no_page:
        page.put("ablation", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
