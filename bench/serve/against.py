"""Serving compared: the same weights, prompts and number of answers, sides in turns, over HTTP.

    LLAMA_SERVER=.../llama-server MISTRALRS_PYTHON=.../python python bench/serve/against.py           # twelve minutes
    python bench/serve/against.py --scenarios "1 user" "8 users"           # some now, the others kept from before
    python bench/serve/against.py --quick                                  # one round, few tokens

Scenarios: 1 user; 8 and 32 users of the model; 8 users of 1 adapter; 8 users of 8 adapters; 32 users of 32 adapters;
64 adapters through 16 slots, beside 16 adapters through 16. Prompts differ between users and rounds. A side that is
not there is named in the result with the reason: `llama.cpp` needs its server built natively, which
`bench/serve/build_native.sh FOLDER` does, and `mistral.rs` a Python that has its wheel (MISTRALRS_PYTHON).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clients import run
from sides import Allmend, Mistral, Native, Side, Transformers, Wheel

from allmend import adapters
from allmend.models.loading import load
from allmend.models.rated_rows import examples_file
from allmend.models.resolve import resolve

SIDES: dict[str, type[Side]] = {each.name: each for each in (Allmend, Native, Wheel, Mistral, Transformers)}
SCENARIOS = {
    "1 user": (1, 0),
    "8 users": (8, 0),
    "32 users": (32, 0),
    "8 users, 1 adapter": (8, 1),
    "8 users, 8 adapters": (8, 8),
    "32 users, 32 adapters": (32, 32),
    "16 adapters, 16 slots": (16, 16),
    "64 adapters, 16 slots": (16, 64),
}


def make_adapters(folder: Path, count: int, gguf: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Random adapters of rank 16 on all linear layers, as PEFT folders and as llama.cpp's files."""
    import torch

    from allmend.engines.llamacpp import lora_file

    model = load(resolve("gemma-3-270m"), dtype="bfloat16").model
    shapes = {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.endswith("lm_head")
    }
    about = lora_file.about_model(gguf)
    folders, files = {}, {}
    for place in range(count):
        numbers = torch.Generator().manual_seed(place)
        tensors = {}
        for name, (inputs, outputs) in shapes.items():
            key = f"base_model.model.{name}"
            tensors[f"{key}.lora_A.weight"] = (torch.randn(16, inputs, generator=numbers) * 0.01).to(torch.bfloat16)
            tensors[f"{key}.lora_B.weight"] = (torch.randn(outputs, 16, generator=numbers) * 0.01).to(torch.bfloat16)
        target = folder / f"a{place}"
        target.mkdir()
        from safetensors.torch import save_file

        save_file(tensors, target / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 16, "lora_alpha": 16, "target_modules": "all-linear"}
        (target / "adapter_config.json").write_text(json.dumps(config))
        folders[f"a{place}"] = target
        if place < 32:
            files[f"a{place}"] = folder / f"a{place}.gguf"
            lora_file.write(adapters.read(target), about, files[f"a{place}"])
    return folders, files


def prompts() -> list[str]:
    """Real sentences, about fifty tokens a prompt, no two alike."""
    with examples_file("movie-reviews").open(encoding="utf-8") as lines:
        sentences = [json.loads(line)["prompt"].split("\n\n", 1)[1].strip() for line in lines]
    return ["\n".join(sentences[place : place + 2]) for place in range(0, len(sentences) - 2, 2)]


def plan(side: Side, users: int, kinds: int, rounds: int, tokens: int, texts: list[str]) -> list[list[dict[str, Any]]]:
    """Bodies by user. With more adapters than users each user goes through its share of them."""
    bodies = []
    each = max(rounds, kinds // users if kinds > users else rounds)
    for user in range(users):
        mine = []
        for turn in range(each):
            adapter = f"a{(user + users * turn) % kinds}" if kinds else None
            mine.append(side.body(texts.pop(), tokens, adapter))
        bodies.append(mine)
    return bodies


def main() -> None:
    """Run and write the result."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--tokens", type=int, default=64)
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options.add_argument("--sides", nargs="*", default=list(SIDES))
    options.add_argument("--scenarios", nargs="*", default=list(SCENARIOS))
    options.add_argument("--once", nargs="*", default=[], help="sides that one round is enough for: minutes a round")
    options.add_argument("--output", type=Path, default=Path(__file__).parent / "against.json")
    options.add_argument("--table", action="store_true", help="print the result as Markdown, measure nothing")
    given = options.parse_args()
    if given.table:
        print(table(json.loads(given.output.read_text())["results"]))
        return
    if given.quick:
        given.rounds, given.tokens = 1, 24
    settings = {"rounds": given.rounds, "tokens": given.tokens, "threads": given.threads, "rank": 16}
    gguf, results, missing = resolve("gemma-3-270m").path, kept(given, settings), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        most = max(SCENARIOS[each][1] for each in given.scenarios)
        folders, files = make_adapters(folder, most, gguf)
        texts = prompts()
        for scenario in given.scenarios:
            users, kinds = SCENARIOS[scenario]
            os.environ["BENCH_SLOTS"] = "16" if "slots" in scenario else "64"
            sides = []
            for side in given.sides:
                if ("slots" in scenario and side != "allmend") or (side == "transformers" and kinds):
                    continue
                chosen = list(folders)[:kinds]
                try:
                    made = SIDES[side](
                        folder, {key: folders[key] for key in chosen}, gguf,
                        {key: files[key] for key in chosen if key in files}, given.threads,
                    )  # fmt: skip
                except (KeyError, OSError, RuntimeError, TimeoutError) as error:
                    missing[side] = f"{type(error).__name__}: {error}"[:300]
                    continue
                sides.append(made)
            try:
                results.append(compare(scenario, users, kinds, sides, given, texts))
            finally:
                for each in sides:
                    each.close()
            print(json.dumps(results[-1], indent=1), flush=True)
            result = {
                "command": "LLAMA_SERVER=… python bench/serve/against.py",
                "machine": machine(),
                "versions": {each: version(each) for each in ("torch", "transformers", "xllamacpp")},
                "settings": settings,
                "missing": missing,
                "results": sorted(results, key=lambda each: list(SCENARIOS).index(each["scenario"])),
            }
            given.output.write_text(json.dumps(result, indent=1) + "\n")


def kept(given: argparse.Namespace, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """What an earlier call measured with the same settings, but for what is measured now."""
    if not given.output.exists():
        return []
    earlier = json.loads(given.output.read_text())
    if earlier["settings"] != settings:
        return []
    return [each for each in earlier["results"] if each["scenario"] not in given.scenarios]


def compare(
    scenario: str, users: int, kinds: int, sides: list[Side], given: argparse.Namespace, texts: list[str]
) -> dict[str, Any]:
    """Sides in turns, `rounds` times; medians."""
    found: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    memory: dict[str, int] = {}
    for side in sides:  # Once without counting: pages are touched, graphs are built.
        run(side.url, plan(side, users, kinds, 1, 4, texts), 4)
    for number in range(given.rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            if number >= side.most_rounds or (number and side.name in given.once):
                continue
            load = run(side.url, plan(side, users, kinds, 1, given.tokens, texts), given.tokens)
            found[side.name].append(load.summary())
            memory[side.name] = side.memory()
            time.sleep(0.2)
    return {
        "scenario": scenario,
        **{
            name: {
                **{
                    key: statistics.median(values)
                    for key in ("tokens_per_second", "first_token_ms_p50", "first_token_ms_p99")
                    if (values := [each[key] for each in rounds if each[key] is not None])
                },
                "memory_mib": memory.get(name),
                "rounds": [each["tokens_per_second"] for each in rounds],
                "failures": [failure for each in rounds for failure in each["failures"]][:3],
            }
            for name, rounds in found.items()
        },
    }


def table(results: list[dict[str, Any]]) -> str:
    """Tokens a second, and milliseconds to the first token (median, 99th percentile), for the docs."""
    lines = ["| | " + " | ".join(SIDES) + " |", "|---" * (len(SIDES) + 1) + "|"]
    for each in results:
        cells = []
        for side in SIDES:
            found = each.get(side)
            if found is None or found.get("tokens_per_second") is None:
                cells.append("–")
                continue
            first, last = (round(found[f"first_token_ms_{key}"]) for key in ("p50", "p99"))
            cells.append(f"**{found['tokens_per_second']:.0f}** ({first:,}, {last:,})")
        lines.append(f"| {each['scenario']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
