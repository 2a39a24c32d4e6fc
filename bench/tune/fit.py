"""What the fit probe promises before training against what training then takes, on real rows.

    python bench/tune/fit.py

Runs `tune` on movie reviews, short and long, and writes predicted and actual minutes and peak memory to `fit.json`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from allmend.models.rated_rows import examples_file
from allmend.verbs.tune import tune

JOINED = {"short": 1, "long": 6}
TRAIN, HELD_OUT = {"short": 240, "long": 80}, 24


def one(kind: str, folder: Path) -> dict[str, Any]:
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
        folder / f"{kind}-train.jsonl", held_out=folder / f"{kind}-held.jsonl", budget="10m", epochs=1, fresh=True
    )
    seconds, peak = run.metric("training_seconds"), run.metric("peak_mib")
    assert seconds is not None and seconds.last is not None and peak is not None
    return {
        "kind": kind,
        "steps": run.choice("steps"),
        "threads": run.choice("threads"),
        "predicted_minutes": run.choice("predicted_minutes"),
        "actual_minutes": round(seconds.last / 60, 2),
        "predicted_peak_mib": run.choice("predicted_peak_mib"),
        "actual_peak_mib": peak.last,
        "choices": [f"{choice.name} = {choice.value}: {choice.reason}" for choice in run.choices],
        "load_after": os.getloadavg(),
    }


def main() -> None:
    """Run both and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        found = [one(kind, Path(folder)) for kind in JOINED]
    result = {"command": " ".join(["python", *sys.argv]), "runs": found}
    (Path(__file__).parent / "fit.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
