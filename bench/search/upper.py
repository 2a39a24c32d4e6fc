"""LoRAs in the upper layers alone, over kept activations, against LoRAs in all layers: quality and time.

    python bench/search/upper.py [--rows 480] [--epochs 2] [--layers 0 9 4] [--seeds 0] [--tasks movie-reviews]

Each number of layers (0 is all) trains on the same rows for the same passes at the default setting; then the held-out
rows are answered. With and without keeping what lies below, so that the gain of keeping is seen by itself. About eight
minutes on two quiet cores; scaled down in rows. Works in parts: run it again until nothing is left.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tasks import TASKS, dataset, machine

from allmend import data
from allmend.adapters import LoraConfig
from allmend.compute import Segment
from allmend.models import resolve
from allmend.models.loading import load
from allmend.search.space import Space
from allmend.search.trainer import BEST, Shared, Siblings, steps_for
from allmend.search.upper import upper_targets
from allmend.tuning import checkpoint
from allmend.verdicts.measure import answer_labels

HERE = Path(__file__).parent


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=480)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 9, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["movie-reviews"])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--model", default="gemma-3-270m")
    given = parser.parse_args()
    loaded = load(resolve(given.model))
    template = data.of_tokenizer(loaded.tokenizer)
    point = Space().default
    target = HERE / "upper.json"
    before = json.loads(target.read_text()) if target.is_file() else {}
    same = before.get("rows") == given.rows and before.get("epochs") == given.epochs
    results: list[dict[str, Any]] = before["results"] if same else []
    done = {(one["task"], one["seed"], one["layers"], one["kept"]) for one in results}
    begun_all = time.monotonic()
    for task in given.tasks:
        for seed in given.seeds:
            found = dataset(task, seed, shuffled=True)
            train, select = (
                list(data.encode_rows(part, loaded.tokenizer, template, context=loaded.context))
                for part in (found.train[: given.rows], found.select)
            )
            for layers in given.layers:
                for kept in (True, False) if layers else (False,):
                    if (task, seed, layers or "all", kept) in done:
                        continue
                    if time.monotonic() - begun_all > given.minutes * 60:
                        print("More is left: run it again.")
                        return
                    targets = upper_targets(loaded.model, layers, ()) if layers else ()
                    shared = Shared(LoraConfig(targets=targets), seed, 2048, upper_layers=layers if kept else 0)
                    siblings = Siblings(loaded, train, select, shared)
                    steps = steps_for(given.epochs * len(train), point.batch, len(train))
                    with tempfile.TemporaryDirectory() as folder:
                        segment = Segment(
                            trial=0, point=point, folder=Path(folder), until=steps, steps=steps,
                            climb=max(1, steps // 20), decay_from=max(1, steps // 3), evaluate_at=(steps,),
                        )  # fmt: skip
                        begun = time.perf_counter()
                        ended = siblings.run(segment, lambda event: None, lambda: False)
                        seconds = time.perf_counter() - begun
                        lora, passes = siblings.take(point)
                        lora.load_state(checkpoint.load(Path(folder) / BEST)[0])
                        passes.close()
                    given_labels = answer_labels(loaded, found.held_out, found.labels or [], template).labels
                    right = [one == row.completion for one, row in zip(given_labels, found.held_out, strict=True)]
                    siblings.close()
                    results.append(
                        {"task": task, "seed": seed, "layers": layers or "all", "kept": kept,
                         "seconds": round(seconds, 1), "select_loss": ended.best_loss,
                         "accuracy": statistics.mean(right), "held_out_rows": len(right)}
                    )  # fmt: skip
                    print(results[-1], flush=True)
                    result = {
                        "command": "python " + " ".join(sys.argv), "machine": machine(), "rows": given.rows,
                        "epochs": given.epochs, "threads": torch.get_num_threads(),
                        "seconds_of": "the processor" if time.perf_counter is time.process_time else "the wall",
                        "setting": point.model_dump(), "results": results,
                    }  # fmt: skip
                    target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
