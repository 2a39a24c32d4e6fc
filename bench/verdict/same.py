"""Two of the same must not be told apart: is a verdict `not shown to be better` where nothing is better?

    python bench/verdict/same.py [--tunes 4] [--steps 60] [--rows 600] [--draws 2000] [--minutes 8]

Two kinds of pairs, on the default model and the movie reviews:

seeds         `--tunes` LoRAs that differ only by the seed of the LoRA, the order of the rows and nothing else, each
              asked for the labels of `--rows` held-out rows once. A draw takes an ordered pair of different tunes and
              half of the rows, without putting back, each with equal chance, and asks for the words of a verdict on
              accuracy, as `allmend verdict RUN RUN` gives them for one pair (interval and McNemar's test).
temperature   one model (the first tune) writes `--samples` answers to each of 300 held-out rows at temperature 1. A
              draw takes 200 of the rows and, for each row apart, two different ones of its answers: one is the base's,
              the other the tuned model's. The words are those on exact match.

Counted are draws with the words `not shown to be better`. Tunes do differ a little by seed, so the first figure holds
for as many rows as a draw has: with very many rows a true difference between two adapters would show.
The result goes to `same.json` beside this file. Works in parts: run it again until nothing is left.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from about import machine

from allmend import data
from allmend.adapters import LoraConfig, LoraSet, attach, detach
from allmend.models import resolve
from allmend.models.loading import Loaded, load
from allmend.models.rated_rows import examples_file
from allmend.tuning.loop import Plan, train
from allmend.verdicts.free_text import write_answers
from allmend.verdicts.intervals import p_value, paired_interval
from allmend.verdicts.measure import answer_labels
from allmend.verdicts.metrics import exact_match
from allmend.verdicts.words import words_for

ENOUGH = 94
TEXT_ROWS = 300


def words(base: list[float], tuned: list[float]) -> str:
    """As a verdict's own, from one number a row."""
    low, high = paired_interval(base, tuned)
    return words_for(low, high, True, p_value(base, tuned))


def tuned(loaded: Loaded, dataset: data.Dataset, seed: int, steps: int) -> LoraSet:
    """A LoRA inside the model; one of another seed differs from it in nothing else."""
    template = data.of_tokenizer(loaded.tokenizer)
    # The file has one label after another.
    some = random.Random(0).sample(dataset.train, 16 * steps)
    rows = list(data.encode_rows(some, loaded.tokenizer, template, context=256))
    select = list(data.encode_rows(dataset.select[:32], loaded.tokenizer, template, context=256))
    lora = attach(loaded.model, LoraConfig(rank=16, alpha=32.0), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(steps=steps, rate=5e-4, batch_rows=16, seed=seed, evaluations=1)
        train(loaded, lora, rows, select, plan, Path(folder))
    return lora


def of_seeds(right: list[list[float]], draws: int) -> dict[str, Any]:
    chance, counted = random.Random(1), Counter[str]()
    half = len(right[0]) // 2
    for _ in range(draws):
        first, second = chance.sample(range(len(right)), 2)
        places = chance.sample(range(len(right[0])), half)
        counted[words([right[first][p] for p in places], [right[second][p] for p in places])] += 1
    return {
        "draws": draws,
        "rows_a_draw": half,
        "tunes": len(right),
        "accuracy_of_each": [round(sum(side) / len(side), 4) for side in right],
        "words": dict(counted),
        "not_shown_of_100": round(100 * counted["not shown to be better"] / draws, 2),
    }


def of_samples(right: list[list[float]], draws: int) -> dict[str, Any]:
    """`right[row][sample]`."""
    chance, counted = random.Random(2), Counter[str]()
    many = len(right) * 2 // 3
    for _ in range(draws):
        rows = chance.sample(right, many)
        pairs = [chance.sample(row, 2) for row in rows]
        counted[words([pair[0] for pair in pairs], [pair[1] for pair in pairs])] += 1
    flat = [value for row in right for value in row]
    return {
        "draws": draws,
        "rows_a_draw": many,
        "samples_of_each_row": len(right[0]),
        "share_right": round(sum(flat) / len(flat), 4),
        "rows_whose_answers_differ": sum(len(set(row)) > 1 for row in right),
        "words": dict(counted),
        "not_shown_of_100": round(100 * counted["not shown to be better"] / draws, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in (("tunes", 4), ("steps", 60), ("rows", 600), ("samples", 6), ("draws", 2000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--minutes", type=float, default=8.0)
    asked = parser.parse_args()
    began = time.monotonic()
    kept = Path.home() / ".cache" / "allmend-bench" / f"same-{asked.steps}-{asked.rows}-{asked.samples}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    done: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    dataset = data.load(examples_file("movie-reviews"), seed=0, held_out=asked.rows, select=100)
    loaded = load(resolve("gemma-3-270m"))
    template = data.of_tokenizer(loaded.tokenizer)
    held, labels = dataset.held_out, dataset.labels or []
    for number in range(asked.tunes):
        if f"tune {number}" in done and (number or "sampled" in done):
            continue
        if time.monotonic() - began > asked.minutes * 60:
            print("More is left: run it again.")
            return
        lora = tuned(loaded, dataset, number, asked.steps)
        found = answer_labels(loaded, held, labels, template).labels
        done[f"tune {number}"] = [float(a == row.completion) for a, row in zip(found, held, strict=True)]
        print(f"tune {number}: {sum(done[f'tune {number}']) / len(held):.3f}", flush=True)
        if number == 0:
            many = [row for row in held[:TEXT_ROWS] for _ in range(asked.samples)]
            written = write_answers(loaded, many, template, 6, temperature=1.0, seed=0)
            scores = exact_match([one.text for one in written], [row.completion for row in many])
            done["sampled"] = [scores[at : at + asked.samples] for at in range(0, len(scores), asked.samples)]
        detach(loaded.model, lora)
        kept.write_text(json.dumps(done))
    right = [done[f"tune {number}"] for number in range(asked.tunes)]
    result = {
        "what": "draws of two of the same that a verdict calls `not shown to be better`",
        "command": "python " + " ".join(["bench/verdict/same.py", *sys.argv[1:]]),
        "wanted_of_100": ENOUGH,
        "seeds": of_seeds(right, asked.draws),
        "temperature": of_samples(done["sampled"], asked.draws),
        "machine": machine(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
