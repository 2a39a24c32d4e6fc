"""What `allmend tune` takes of the time that it is given: one setting, and a search.

    python bench/search/budget.py [--runs 90/1 180/1 180/3 300/auto] [--minutes 10] [--processor]

Each run is the command as a person gives it, on the movie reviews, budget in seconds / trials. `seconds` is what passed
inside the verb, `wall` with the start of Python and the imports, which a budget does not cover. `--processor` counts
seconds of the processor instead (see `processor_clock.py`), for a machine that others use as well.
Works in parts: what is there is kept; `--minutes` says when to begin nothing more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tasks import machine, rows_file

from allmend.nouns.run import Run

HERE = Path(__file__).parent


def measured(budget: float, trials: str, model: str, seed: int, processor: bool) -> dict[str, Any]:
    """One run of the command."""
    clock = [sys.executable, *([str(HERE / "processor_clock.py")] if processor else []), "-m", "allmend"]
    line = [*clock, "tune", str(rows_file("movie-reviews")), "--model", model, "--budget", f"{budget}s",
            "--seed", str(seed), "--fresh", "--json"]  # fmt: skip
    begun = time.monotonic()
    done = subprocess.run(
        [*line, *(() if trials == "auto" else ("--trials", trials))], check=True, capture_output=True, text=True
    )
    wall = time.monotonic() - begun
    run = Run.from_json(done.stdout)
    seconds = run.metric("seconds")
    took = seconds.last if seconds else float("nan")
    return {
        "budget": budget, "trials": run.choice("trials"), "seconds": round(took, 2),
        "of_the_budget": round(took / budget, 4),
        "wall": None if processor else round(wall, 2), "few_shot": run.choice("few_shot"),
        "forgetting": run.choice("forgetting"), "judged_rows": run.choice("judged_rows"),
        "steps": [one.value for one in run.choices if one.name == "steps"],
    }  # fmt: skip


def main() -> None:
    """Measure what is not there yet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", nargs="+", default=["90/1", "180/1", "180/3", "300/auto"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--processor", action="store_true")
    given = parser.parse_args()
    target = HERE / ("budget_processor.json" if given.processor else "budget.json")
    kept = json.loads(target.read_text()) if target.is_file() else {"runs": {}}
    begun, left = time.monotonic(), 0
    for key in given.runs:
        if key in kept["runs"]:
            continue
        if time.monotonic() - begun > given.minutes * 60:
            left += 1
            continue
        budget, trials = key.split("/")
        kept["runs"][key] = measured(float(budget), trials, given.model, given.seed, given.processor)
        off = [abs(one["of_the_budget"] - 1) for one in kept["runs"].values()]
        kept |= {"command": "python " + " ".join(sys.argv), "machine": machine(), "farthest_off": round(max(off), 4)}
        target.write_text(json.dumps(kept, indent=1) + "\n")
        print(key, kept["runs"][key], flush=True)
    print(f"{left} parts are left: run it again." if left else "Nothing is left.")


if __name__ == "__main__":
    main()
