"""What the fit probe promises before training against what training then takes, on real rows.

    python bench/tune/fit.py [--rounds 2] [--only short:lora]

Runs `tune` on movie reviews, short and long, LoRA and a base in 4 bits, and writes predicted and actual minutes and
peak memory to `fit.json`, with the error of each as a share of what happened. About a minute and a half a run; `--only`
does one of the four and keeps the others' results.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from against import machine

from allmend.models.rated_rows import examples_file
from allmend.verbs.tune import tune

JOINED = {"short": 1, "long": 6}
TRAIN, HELD_OUT = {"short": 192, "long": 64}, 8
WAYS: dict[str, dict[str, Any]] = {"lora": {}, "4 bits": {"base_bits": 4}}


def one(kind: str, way: str, folder: Path) -> dict[str, Any]:
    """Tune once."""
    with examples_file("movie-reviews").open(encoding="utf-8") as lines:
        sentences = [json.loads(line) for line in lines]
    joined = JOINED[kind]
    rows = []
    for place in range(TRAIN[kind] + HELD_OUT):
        part = sentences[place * joined : (place + 1) * joined]
        texts = "\n".join(each["prompt"].split("\n\n", 1)[1] for each in part)
        rows.append({"prompt": f"Positive or negative?\n\n{texts}", "completion": part[0]["completion"]})
    for name, part_rows in (("train", rows[HELD_OUT:]), ("held", rows[:HELD_OUT])):
        (folder / f"{kind}-{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part_rows))
    run = tune(
        folder / f"{kind}-train.jsonl",
        held_out=folder / f"{kind}-held.jsonl",
        budget="10m",
        epochs=1,
        fresh=True,
        **WAYS[way],
    )
    seconds, peak = run.metric("training_seconds"), run.metric("peak_mib")
    assert seconds is not None and seconds.last is not None and peak is not None
    predicted = run.choice("predicted_minutes"), run.choice("predicted_peak_mib")
    return {
        "kind": kind,
        "way": way,
        "error_of_minutes": round(predicted[0] / (seconds.last / 60) - 1, 3),
        "error_of_peak": round(predicted[1] / (peak.last or 1) - 1, 3),
        "steps": run.choice("steps"),
        "threads": run.choice("threads"),
        "predicted_minutes": run.choice("predicted_minutes"),
        "actual_minutes": round(seconds.last / 60, 3),
        "predicted_peak_mib": run.choice("predicted_peak_mib"),
        "actual_peak_mib": peak.last,
        "choices": [f"{choice.name} = {choice.value}: {choice.reason}" for choice in run.choices],
        "load_after": os.getloadavg(),
    }


def main() -> None:
    """Run both and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1)
    every = [f"{kind}:{way}" for kind in JOINED for way in WAYS]
    parser.add_argument("--only", choices=every)
    settings = parser.parse_args()
    wanted = [settings.only] if settings.only else every
    file = Path(__file__).parent / "fit.json"
    found = json.loads(file.read_text())["runs"] if settings.only and file.is_file() else []
    found = [run for run in found if f"{run['kind']}:{run['way']}" not in wanted]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(settings.rounds):
            for name in wanted:
                kind, _, way = name.partition(":")
                found.append(one(kind, way, Path(folder)))
    worst = {name: max(found, key=lambda run: abs(run[name]))[name] for name in ("error_of_minutes", "error_of_peak")}
    result = {"command": " ".join(["python", *sys.argv]), "machine": machine(), "worst": worst, "runs": found}
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
