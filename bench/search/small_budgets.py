"""Where a budget is small: one informed setting, three or nine of them, for the same number of training rows in all.

    python bench/search/small_budgets.py [--rows 1700 4300 10500] [--trials 1 3 9] [--seeds 0] [--minutes 8]

Two cores train about 21 rows of movie reviews a second, so 1,700, 4,300 and 10,500 rows are what budgets of three, five
and ten minutes leave for trials. The scheduler is the search's own, with a clock that a row moves on by one second, so
that the result does not depend on who else uses the machine. Each winner answers the same held-out rows; differences
are paired with the one setting's. `chosen` is what `allmend tune` takes by itself for so many rows.
Works in parts: run it again until it says that nothing is left.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks import TASKS, dataset, machine

from allmend import data
from allmend.adapters import LoraConfig, attach_weights, detach, read
from allmend.compute import HereWorker
from allmend.models import resolve
from allmend.models.loading import load
from allmend.nouns.search import Point, Search
from allmend.search.rungs import Costs
from allmend.search.sampling import FILE, Sampler
from allmend.search.scheduler import Limits, Scheduler
from allmend.search.space import Space, space_of
from allmend.search.state import RECORD, Keeper, read_record
from allmend.search.trainer import Shared, Siblings
from allmend.tuning.rates import first_rate
from allmend.verbs.searching_size import how_many
from allmend.verdicts.intervals import paired_interval
from allmend.verdicts.measure import answer_labels

HERE = Path(__file__).parent
A_ROW = Costs(row=1.0, evaluation=0.0)


class ByRows(Scheduler):
    """A scheduler to which a row takes a second, whatever it took."""

    def _fit(self, counts: list[int], points: Sequence[Point], costs: Costs, begin: int) -> list[int]:
        return super()._fit(counts, points, A_ROW, begin)


class Task:
    """Rows of one task and seed, and the model."""

    def __init__(self, loaded: Any, name: str, seed: int, held_out: int) -> None:
        self.loaded, self.seed = loaded, seed
        self.found = dataset(name, seed, held_out=held_out)
        self.template = data.of_tokenizer(loaded.tokenizer)
        train, select = (
            list(data.encode_rows(part, loaded.tokenizer, self.template, context=loaded.context))
            for part in (self.found.train, self.found.select)
        )
        self.shared = Shared(LoraConfig(), seed=seed, pack_tokens=2048)
        self.siblings = Siblings(loaded, train, select, self.shared)
        config = loaded.model.config.get_text_config()
        self.middle, _ = first_rate(int(config.hidden_size), str(config.model_type))

    def space(self, rows: int) -> Space:
        """What the search would look through."""
        total = len(self.siblings.rows)
        return space_of(total, middle=self.middle, passes=rows / total / 2)

    def search(self, rows: int, trials: int, folder: Path, over: Any) -> Search | None:
        """Search within so many rows; None where there was no time to end it."""
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / RECORD).is_file():
            search = read_record(folder)
            live = tuple(
                one.model_copy(update={"state": "paused", "worker": ""}) if one.state == "running" else one
                for one in search.trials
            )
            search = search.model_copy(update={"trials": live})
        else:
            search = Search(run="bench", train_rows=len(self.siblings.rows), select_rows=len(self.siblings.select))
        keeper = Keeper(folder, search, self.loaded.about, self.shared.of, ("", "plain"))
        sampler = Sampler(folder / FILE, self.space(rows), self.seed)
        scheduler = ByRows(
            keeper, sampler, [HereWorker(self.siblings, stopping=over)], len(self.siblings.rows), A_ROW,
            Limits(trials, trials), left=lambda: max(0.5, rows / 0.98 - seen(keeper.search)), stopping=over,
        )  # fmt: skip
        try:
            found = scheduler.go()
        finally:
            sampler.close()
        return None if over() else found

    def right(self, folder: Path) -> list[float]:
        """Right or wrong on each held-out row, of the folder's best adapter."""
        self.siblings.close()
        lora = attach_weights(self.loaded.model, read(folder / "adapter"))
        try:
            rows = self.found.held_out
            given = answer_labels(self.loaded, rows, self.found.labels or [], self.template).labels
            return [float(one == row.completion) for one, row in zip(given, rows, strict=True)]
        finally:
            detach(self.loaded.model, lora)


def seen(search: Search) -> int:
    """Rows that all trials have seen."""
    return sum(trial.rows for trial in search.trials)


def cell(task: Task, rows: int, trials: int, folder: Path, over: Any) -> dict[str, Any] | None:
    """One number of trials within one number of rows."""
    found = task.search(rows, trials, folder, over)
    if found is None:
        return None
    winner = found.trial(found.winner if found.winner is not None else 0)
    right = task.right(folder)
    return {
        "trials": trials, "rows_seen": seen(found), "winner_rows": winner.rows,
        "winner": winner.point.model_dump(), "select_loss": winner.best, "accuracy": statistics.mean(right),
        "right": "".join(str(int(one)) for one in right),
    }  # fmt: skip


def compared(cells: dict[str, Any]) -> list[dict[str, Any]]:
    """Each number of trials against the one setting, and all seeds together."""
    sums = []
    for key, value in sorted(cells.items()):
        name, rows, trials, seed = key.split("/")
        one = cells.get(f"{name}/{rows}/1/{seed}")
        if trials == "1" or one is None:
            continue
        sides = [[float(sign) for sign in side["right"]] for side in (one, value)]
        low, high = paired_interval(sides[0], sides[1])
        sums.append({"task": name, "rows": int(rows), "seed": int(seed), "trials": int(trials),
                     "one_setting": one["accuracy"], "search": value["accuracy"],
                     "difference_interval": [round(low, 4), round(high, 4)]})  # fmt: skip
    return sums


def main() -> None:
    """Do what fits into the minutes; write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[1700, 4300, 10500])
    parser.add_argument("--trials", type=int, nargs="+", default=[1, 3, 9])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["movie-reviews"])
    parser.add_argument("--held-out", type=int, default=600)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "allmend-bench" / "small_budgets")
    given = parser.parse_args()
    begun = time.monotonic()

    def over() -> bool:
        return time.monotonic() - begun > given.minutes * 60

    given.work.mkdir(parents=True, exist_ok=True)
    kept = given.work / "cells.json"
    cells: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    loaded = load(resolve(given.model))
    left, chosen = 0, {}
    for name in given.tasks:
        for seed in given.seeds:
            task = Task(loaded, name, seed, given.held_out)
            for rows in given.rows:
                count, why = how_many(rows / 0.98, A_ROW, len(task.siblings.rows), task.space(rows), None)
                chosen[str(rows)] = {"trials": count, "why": why}
                for trials in given.trials:
                    key = f"{name}/{rows}/{trials}/{seed}"
                    if key in cells:
                        continue
                    folder = given.work / key.replace("/", "-")
                    found = None if over() else cell(task, rows, trials, folder, over)
                    if found is None:
                        left += 1
                        continue
                    cells[key] = found
                    kept.write_text(json.dumps(cells))
                    shutil.rmtree(folder)
                    print(key, {name: value for name, value in found.items() if name != "right"}, flush=True)
            task.siblings.close()
    result = {
        "command": "python " + " ".join(sys.argv),
        "machine": machine(),
        "chosen": chosen,
        "against_one_setting": compared(cells),
        "cells": cells,
    }
    (HERE / "small_budgets.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"{left} parts are left: run it again." if left else "Nothing is left.")


if __name__ == "__main__":
    main()
