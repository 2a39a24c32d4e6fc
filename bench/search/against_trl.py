"""`allmend tune` with its search against Optuna + TRL started for each trial, at equal budget: quality, trials, memory.

    OMP_NUM_THREADS=1 python bench/search/against_trl.py [--budget 180] [--seeds 0 1 2] [--tasks movie-reviews]

Each side runs in a process of its own, in turns, on the same machine, with one thread, the same held-out rows and the
same budget for everything: in seconds of the processor (`processor_clock.py`), which others on the machine do not
change. `--trl-rows` rows are one trial of the other side: few, so that it finishes several (TRL trains under
a hundred tokens a second on two cores, see `bench/tune/against.json`). Works in parts: finished sides are kept in
`against_trl.json`, and `--minutes` says when to begin nothing more.
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

from tasks import TASKS, dataset, machine, rows_file

from allmend.nouns.run import Run
from allmend.nouns.verdict import Verdict
from allmend.search.state import read_record

HERE = Path(__file__).parent
CLOCK = (sys.executable, str(HERE / "processor_clock.py"))


def ours(model: str, seed: int, budget: float, held_out: Path, rest: Path) -> dict[str, Any]:
    """The command, as a person runs it; held-out rows in a file, so that both sides have the same."""
    command = [*CLOCK, "-m", "allmend", "tune", str(rest), "--held-out", str(held_out), "--trials", "9",
               "--model", model, "--budget", f"{budget}s", "--seed", str(seed), "--fresh", "--json"]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    run = Run.from_json(done.stdout)
    found = read_record(Path(run.folder))
    peak, took = run.metric("peak_mib"), run.metric("seconds")
    verdict = Verdict.from_json(Path(run.output("verdict") or "").read_text())
    return {
        "accuracy": verdict.main.tuned, "untuned": verdict.main.base, "metric": verdict.main.name,
        "trials_begun": sum(trial.step > 0 for trial in found.trials),
        "trials_finished": sum(trial.rung >= 0 for trial in found.trials),
        "peak_mib": peak.last if peak else None, "processor_seconds": took.last if took else None,
        "words": verdict.words, "sentence": found.sentence,
    }  # fmt: skip


def theirs(model: str, task: str, seed: int, budget: float, rows: int) -> dict[str, Any]:
    """TRL and Optuna in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "result.json"
        command = [
            *CLOCK,
            str(HERE / "trl_side.py"),
            task,
            str(seed),
            str(budget),
            str(rows),
            str(target),
            model,
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(target.read_text())
        found.pop("right")
        return found


def files(task: str, seed: int, folder: Path) -> tuple[Path, Path]:
    """Held-out rows, and all others, as files."""
    found = dataset(task, seed)
    paths = folder / "held_out.jsonl", folder / "rest.jsonl"
    for path, rows in zip(paths, (found.held_out, [*found.train, *found.select]), strict=True):
        lines = (json.dumps({"prompt": row.prompt, "completion": row.completion}) for row in rows)
        path.write_text("\n".join(lines) + "\n")
    return paths


def main() -> None:
    """Both sides for each task and seed that is not there yet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--budget", type=float, default=180.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["movie-reviews"])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--trl-rows", type=int, default=128)
    parser.add_argument("--model", default="gemma-3-270m")
    given = parser.parse_args()
    target = HERE / "against_trl.json"
    begun = time.monotonic()
    kept = json.loads(target.read_text()) if target.is_file() else {"results": {}}
    left = 0
    for seed in given.seeds:
        for task in given.tasks:
            key = f"{task}/{seed}/{given.budget:g}s"
            for side in ("allmend", "optuna_trl"):
                if side in kept["results"].setdefault(key, {}):
                    continue
                if time.monotonic() - begun > given.minutes * 60:
                    left += 1
                    continue
                rows_file(task)
                if side == "allmend":
                    with tempfile.TemporaryDirectory() as folder:
                        held_out, rest = files(task, seed, Path(folder))
                        found = ours(given.model, seed, given.budget, held_out, rest)
                else:
                    found = theirs(given.model, task, seed, given.budget, given.trl_rows)
                kept["results"][key][side] = found
                kept |= {
                    "command": "python " + " ".join(sys.argv),
                    "machine": machine(),
                    "threads": os.environ.get("OMP_NUM_THREADS", "default"),
                    "trl_rows_a_trial": given.trl_rows,
                }
                target.write_text(json.dumps(kept, indent=1) + "\n")
                print(key, side, found, flush=True)
    print(f"{left} parts are left: run it again." if left else "Nothing is left.")


if __name__ == "__main__":
    main()
