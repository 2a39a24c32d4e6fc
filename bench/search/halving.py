"""Nine settings by successive halving against all nine trained in full: cost, and whether the same quality is found.

    python bench/search/halving.py [--minutes 10] [--seeds 0 1 2] [--tasks …] [--rows 720] [--select 100]

All nine points of `allmend.search.space` are trained in full (`--rows` rows each, scaled down from what a search of
half an hour gives its winner), in the schedule of halving: constant rate to the last rung, falling there. Since a
trial that pauses and goes on has the bits of one that never paused (`tests/search/test_trainer.py`), what halving
would have kept at each rung can be read off these same trainings; with `--confirm` the real scheduler runs as well,
and must end in the same winner and the same bits. Then the winner of halving and the winner of the grid answer the
held-out rows.

Works in parts: what is done is kept, beside the result, and `--minutes` says when to begin nothing more. Run it again
until it says that nothing is left (about three times ten minutes on two quiet cores).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from tasks import TASKS, dataset, machine

from allmend import data
from allmend.adapters import LoraConfig, attach_weights, detach, read
from allmend.adapters.stored import stored
from allmend.compute import HereWorker, Segment
from allmend.models import resolve
from allmend.models.loading import Loaded, load
from allmend.nouns.search import Search
from allmend.search.rungs import ETA, Costs, halve, survivors
from allmend.search.sampling import FILE, Sampler
from allmend.search.scheduler import Limits, Scheduler
from allmend.search.space import Space, first_points
from allmend.search.state import Keeper
from allmend.search.trainer import BEST, LAST, Shared, Siblings, steps_for
from allmend.tuning import checkpoint
from allmend.verdicts.intervals import paired_interval
from allmend.verdicts.measure import answer_labels

HERE = Path(__file__).parent
SPACE = Space(epochs=(3.0,))


class Task:
    """One task and seed: rows, model, trainings."""

    def __init__(self, loaded: Loaded, name: str, seed: int, rows: int, select_rows: int, work: Path) -> None:
        self.loaded, self.name, self.seed, self.folder = loaded, name, seed, work / f"{name}-{seed}"
        self.found = dataset(name, seed, select=select_rows)
        self.template = data.of_tokenizer(loaded.tokenizer)
        train, select = (
            list(data.encode_rows(part, loaded.tokenizer, self.template, context=loaded.context))
            for part in (self.found.train, self.found.select)
        )
        self.shared = Shared(LoraConfig(), seed=seed, pack_tokens=2048)
        self.siblings = Siblings(loaded, train, select, self.shared)
        self.ends = [rows // ETA**2, rows // ETA, rows]
        self.points = first_points(SPACE, 9)

    def full(self, number: int) -> dict[str, Any]:
        """Train a point to the end; its selection loss at each rung, and seconds."""
        point = self.points[number]
        total = len(self.siblings.rows)
        steps = [steps_for(end, point.batch, total) for end in self.ends]
        last = steps[1]
        climb = max(1, round(0.05 * steps[1]))
        segment = Segment(trial=number, point=point, folder=self.folder / f"{number:02d}", until=steps[2],
                          steps=steps[2], climb=climb, decay_from=last, evaluate_at=tuple(steps))  # fmt: skip
        shutil.rmtree(segment.folder, ignore_errors=True)
        losses: dict[int, float] = {}
        seconds: dict[int, float] = {}
        self.siblings.run(
            segment,
            lambda event: (losses.update({event.step: event.select_loss}) if event.measured else None,
                           seconds.update({event.step: event.seconds})),
            lambda: False,
        )  # fmt: skip
        best = [min(loss for step, loss in losses.items() if step <= end) for end in steps]
        return {"point": point.model_dump(), "losses": best, "seconds": [round(seconds[step], 2) for step in steps],
                "digest": digest(segment.folder / LAST)}  # fmt: skip

    def answers(self, number: int) -> list[float]:
        """Right or wrong on each held-out row, of a point's best adapter."""
        self.siblings.close()
        tensors = checkpoint.load(self.folder / f"{number:02d}" / BEST)[0]
        place = self.folder / "answering"
        shutil.rmtree(place, ignore_errors=True)
        from allmend.adapters import write

        write(place, stored(self.shared.of(self.points[number]), tensors), self.loaded.about, "", "plain")
        lora = attach_weights(self.loaded.model, read(place))
        try:
            rows = self.found.held_out
            given = answer_labels(self.loaded, rows, self.found.labels or [], self.template).labels
            return [float(one == row.completion) for one, row in zip(given, rows, strict=True)]
        finally:
            detach(self.loaded.model, lora)

    def confirm(self, rows: int) -> tuple[int, str]:
        """The real scheduler on the same points and rungs: its winner, and the digest of the winner's last state."""
        folder = self.folder / "confirm"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        total = len(self.siblings.rows)
        search = Search(run="bench", train_rows=total, select_rows=len(self.siblings.select))
        keeper = Keeper(folder, search, self.loaded.about, self.shared.of, ("", "plain"))
        sampler = Sampler(folder / FILE, SPACE, self.seed)
        passes = rows / total
        space = Space(epochs=(passes,))
        sampler.space = space
        scheduler = Scheduler(keeper, sampler, [HereWorker(self.siblings)], total, Costs(1e-6, 0.0),
                              Limits(9, 9, evaluations=1), left=lambda: 1e6)  # fmt: skip
        found = scheduler.go()
        sampler.close()
        assert found.winner is not None
        return found.winner, digest(keeper.folder_of(found.winner) / LAST)


def digest(file: Path) -> str:
    """SHA-256 of a checkpoint's adapter and optimiser; its counters hold seconds."""
    adapter, optimiser, _ = checkpoint.load(file)
    whole = hashlib.sha256()
    for name, tensor in sorted({**adapter, **optimiser}.items()):
        whole.update(name.encode() + tensor.numpy().tobytes())
    return whole.hexdigest()


def halved(cells: list[dict[str, Any]]) -> tuple[int, float, float]:
    """What halving keeps of nine full trainings: its winner, its cost in full trainings by rows, and by seconds."""
    counts = halve(9)
    chosen = list(range(9))
    rows, seconds, before = 0.0, 0.0, None
    for place, _ in enumerate(counts):
        share = (1 / ETA ** (2 - place)) - (1 / ETA ** (3 - place) if place else 0)
        rows += len(chosen) * share
        for number in chosen:
            at = cells[number]["seconds"]
            seconds += at[place] - (at[place - 1] if place else 0)
        before = {number: cells[number]["losses"][place] for number in chosen}
        chosen = survivors(before, counts[place + 1], default=0) if place + 1 < len(counts) else chosen
    return chosen[0], rows, seconds / statistics.mean(cell["seconds"][2] for cell in cells)


def compare(task: Task, cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Halving's winner beside the grid's on the held-out rows."""
    winner, rows, seconds = halved(cells)
    grid = survivors({number: cell["losses"][2] for number, cell in enumerate(cells)}, 1)[0]
    mine = task.answers(winner)
    theirs = mine if grid == winner else task.answers(grid)
    low, high = paired_interval(theirs, mine) if grid != winner else (0.0, 0.0)
    return {
        "winner": winner, "grid_winner": grid, "cost_in_full_runs": round(rows, 2),
        "cost_by_seconds": round(seconds, 2), "accuracy": statistics.mean(mine),
        "grid_accuracy": statistics.mean(theirs), "difference_interval": [low, high],
        "within_interval": low <= 0 <= high, "held_out_rows": len(mine),
        "select_loss": cells[winner]["losses"][2], "grid_select_loss": cells[grid]["losses"][2],
    }  # fmt: skip


def main() -> None:
    """Do what fits into the minutes; write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["movie-reviews", "nyt-editorials"])
    parser.add_argument("--rows", type=int, default=720)
    parser.add_argument("--select", type=int, default=100)
    parser.add_argument("--confirm", action="store_true", help="also run the real scheduler, for the first seed")
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "allmend-bench" / "halving")
    given = parser.parse_args()
    begun = time.monotonic()
    over = lambda: time.monotonic() - begun > given.minutes * 60
    work = given.work / f"{Path(given.model).name}-{given.rows}"
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "cells.json"
    done: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    loaded: Loaded | None = None
    left = 0
    for seed in given.seeds:
        for name in given.tasks:
            key = f"{name}/{seed}"
            cells = [done.get(f"{key}/{number}") for number in range(9)]
            wanted = [number for number in range(9) if cells[number] is None]
            compared = f"{key}/compare" in done
            if not wanted and compared and not (given.confirm and f"{key}/confirm" not in done):
                continue
            if over():
                left += len(wanted) + (not compared)
                continue
            loaded = loaded or load(resolve(given.model))
            task = Task(loaded, name, seed, given.rows, given.select, work)
            for number in wanted:
                if over():
                    left += 1
                    continue
                cells[number] = done[f"{key}/{number}"] = task.full(number)
                kept.write_text(json.dumps(done))
                print(key, number, cells[number]["losses"], cells[number]["seconds"], flush=True)
            if all(cells) and not compared and not over():
                done[f"{key}/compare"] = compare(task, cells)
                print(key, done[f"{key}/compare"], flush=True)
            elif not compared:
                left += 1
            if all(cells) and given.confirm and seed == given.seeds[0] and not over():
                winner, digest = task.confirm(given.rows)
                same = winner == halved(cells)[0] and digest == cells[winner]["digest"]
                done[f"{key}/confirm"] = {"winner": winner, "same_winner_and_bits": same}
                print(key, done[f"{key}/confirm"], flush=True)
            kept.write_text(json.dumps(done))
            task.siblings.close()
    found = {key: value for key, value in done.items() if key.endswith(("/compare", "/confirm"))}
    comparisons = [value for key, value in found.items() if key.endswith("/compare")]
    result = {
        "command": "python " + " ".join(sys.argv),
        "machine": machine(),
        "scaled_down": f"{given.rows} rows for a full training, {given.rows // 9} for the first rung, {given.select} "
        "selection rows",
        "seconds_are": "of the wall, on a machine that others used as well; cost_in_full_runs counts rows",
        "comparisons": len(comparisons),
        "most_cost_in_full_runs": max((one["cost_in_full_runs"] for one in comparisons), default=None),
        "most_cost_by_seconds": max((one["cost_by_seconds"] for one in comparisons), default=None),
        "within_interval": sum(one["within_interval"] for one in comparisons),
        "results": found,
        "cells": {key: value for key, value in sorted(done.items()) if key not in found},
    }
    (HERE / "halving.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"{left} parts are left: run it again." if left else "Nothing is left.")


if __name__ == "__main__":
    main()
