"""Trains in forked children that are killed at random moments; says as JSON whether the end is the unbroken one's.

Run by `test_loop.py` in a process of its own, which forks before torch has threads.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import training
from allmend.adapters import LoraConfig, attach
from allmend.tuning import checkpoint
from allmend.tuning.loop import BEST, LAST, Plan, train

PLAN = Plan(steps=60, rate=5e-3, batch_rows=4, seed=1, evaluations=20, checkpoint_seconds=0.0)


def work(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    loaded = training.loaded()
    lora = attach(loaded.model, LoraConfig(rank=2, alpha=4, dropout=0.1), seed=1)
    train(loaded, lora, training.rows(18), training.rows(5, seed=9), PLAN, folder)


def child(folder: Path) -> int:
    number = os.fork()
    if number == 0:
        code = 1
        try:
            work(folder)
            code = 0
        finally:
            os._exit(code)
    return number


def state(folder: Path) -> list[dict[str, torch.Tensor]]:
    return [part for file in (LAST, BEST) for part in checkpoint.load(folder / file)[:2]]


def main(folder: Path, wanted: int) -> None:
    torch.set_num_threads(1)
    started = time.monotonic()
    assert os.waitpid(child(folder / "whole"), 0)[1] == 0
    takes = time.monotonic() - started
    whole = state(folder / "whole")
    numbers, kills, equal, left = random.Random(0), 0, True, []
    turn = 0
    while kills < wanted:
        place = folder / str(turn)
        turn += 1
        for _ in range(8):
            number = child(place)
            begun = time.monotonic()
            time.sleep(numbers.uniform(0.05, takes))
            os.kill(number, signal.SIGKILL)
            if os.waitpid(number, 0)[1] == 0:
                # It was faster than the sleep: sleep less.
                takes = max(0.1, min(takes, 0.7 * (time.monotonic() - begun)))
                break
            kills += 1
            if kills >= wanted:
                break
        assert os.waitpid(child(place), 0)[1] == 0
        for one, other in zip(whole, state(place), strict=True):
            equal = equal and set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)
        left += [path.name for path in place.iterdir() if path.name not in (LAST, BEST)]
    print(json.dumps({"kills": kills, "turns": turn, "equal": equal, "left": left, "seconds": takes}))  # noqa: T201


main(Path(sys.argv[1]), int(sys.argv[2]))
