"""Real tasks that a package on the Python index carries: sentences that people rated, as positive or negative."""

from __future__ import annotations

import json
import os
import platform
import random
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from allmend import data
from allmend.data import Dataset
from allmend.models import catalogue
from allmend.models.catalogue import DataEntry
from allmend.models.fetch import fetch
from allmend.models.rated_rows import examples_file

_OTHERS = {
    "nyt-editorials": (
        "nytEditorialSnippets_GroundTruth.txt",
        607629,
        "7d8fbcce7dde5d716da53e78f4ef4be6b706e9ef1e1d51887e6d0ad4b69cc27e",
        "Is this sentence from an editorial positive or negative?\n\n{text}",
    ),
    "product-reviews": (
        "amazonReviewSnippets_GroundTruth.txt",
        373157,
        "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2",
        "Is this sentence from a product review positive or negative?\n\n{text}",
    ),
}
"""Name: file in the archive that also holds the movie reviews, size, SHA-256, prompt."""

TASKS = ("movie-reviews", *_OTHERS)


def rows_file(task: str) -> Path:
    """The task's rows as JSONL, fetched where they are not here."""
    if task not in _OTHERS:
        return examples_file(task)
    file, size, digest, prompt = _OTHERS[task]
    reviews = catalogue().data["movie-reviews"]
    part = reviews.parts[0]
    part = part.model_copy(update={"member": part.member.rpartition("/")[0] + "/" + file})
    rows = reviews.rows.model_copy(update={"prompt": prompt})
    values: dict[str, Any] = {"file": file, "size": size, "sha256": digest, "parts": (part,), "rows": rows}
    entry: DataEntry = reviews.model_copy(update=values)
    source = fetch("data", task, entry)
    target = source.with_name(f"{task}.jsonl")
    made = []
    for line in source.read_text("utf-8").splitlines():
        columns = line.split("\t")
        score = float(columns[1])
        if abs(score) >= rows.threshold:
            label = rows.positive if score > 0 else rows.negative
            made.append({"prompt": prompt.format(text=columns[2].strip()), "completion": label})
    target.write_text("".join(json.dumps(row) + "\n" for row in made), "utf-8")
    return target


def dataset(task: str, seed: int, held_out: int = 300, select: int = 100, shuffled: bool = False) -> Dataset:
    """Rows and splits.

    Args:
        shuffled: training rows in random order, where not all of them are used: the file of the movie reviews has one
            label after another.
    """
    found = data.load(rows_file(task), seed=seed, held_out=held_out, select=select)
    if not shuffled:
        return found
    return replace(found, train=random.Random(seed).sample(found.train, len(found.train)))


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "versions": {name: version(name) for name in ("torch", "transformers", "optuna")},
    }
