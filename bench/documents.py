"""Which order of passages finds what is looked for: meaning, words, their ranks joined, or the score that is used.

    python bench/documents.py

Texts are docstrings of the packages that allmend stands on, without their first line; questions are the first lines,
each of which one text belongs to. The embedding model is all-minilm-l6-v2. The result goes to `documents.json`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import random
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

MODULES = (
    "numpy numpy.linalg scipy.stats scipy.signal scipy.optimize scipy.linalg scipy.sparse scipy.special scipy.ndimage "
    "scipy.interpolate shutil os subprocess asyncio inspect ast json re random statistics itertools functools "
    "collections pathlib tarfile zipfile argparse threading logging unittest email http.client socket ssl sqlite3 "
    "datetime decimal"
)
ASKED = 500
DEPTH = 50


def pairs() -> list[tuple[str, str]]:
    """(first line, the rest) of docstrings, in an order of chance."""
    found: dict[str, str] = {}
    for name in MODULES.split():
        module = importlib.import_module(name)
        for member in sorted(vars(module)):
            value = getattr(module, member)
            said = inspect.getdoc(value) if callable(value) and not member.startswith("_") else None
            first, _, rest = (said or "").partition("\n\n")
            first = " ".join(first.split())
            if 25 <= len(first) <= 200 and len(rest.strip()) >= 200:
                found.setdefault(first, rest.strip()[:850])
    made = list(found.items())
    random.Random(0).shuffle(made)
    return made


def fused(*ranks: list[int]) -> dict[int, float]:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009)."""
    scores: dict[int, float] = {}
    for rank in ranks:
        for place, number in enumerate(rank, 1):
            scores[number] = scores.get(number, 0.0) + 1 / (60 + place)
    return scores


def measured(index: Any, asked: list[str], vectors: np.ndarray) -> tuple[dict[str, np.ndarray], list[list[float]]]:
    """Reciprocal ranks of the right text for each order, and scores: of the right one, of the best wrong one."""
    from allmend.documents.asking import ask

    ranks: dict[str, list[float]] = {}
    scores: list[list[float]] = []
    for number, (question, vector) in enumerate(zip(asked, vectors, strict=True), 1):
        meaning = [place for place, _ in index.by_meaning(vector, DEPTH)]
        words = index.by_word(question, DEPTH)
        hits = ask(index, question, vector, most=DEPTH)
        joined = fused(meaning, words)
        orders = {
            "meaning": meaning,
            "words": words,
            "reciprocal rank fusion": sorted(joined, key=lambda place: (-joined[place], place)),
            "allmend": [hit.id for hit in hits],
        }
        for name, order in orders.items():
            ranks.setdefault(name, []).append(1 / (order.index(number) + 1) if number in order else 0.0)
        right = next((hit.score for hit in hits if hit.id == number), 0.0)
        scores.append([right, max(hit.score for hit in hits if hit.id != number)])
    return {name: np.array(values) for name, values in ranks.items()}, scores


def main() -> None:
    from allmend.documents.passages import Passage
    from allmend.documents.store import About, Document, Index
    from allmend.engines.torch.embedding.setup import build_embedder
    from allmend.models.resolve import resolve
    from allmend.runs.environment import environment

    warnings.simplefilter("ignore")
    texts = pairs()
    asked = [first for first, _ in texts[:ASKED]]
    engine = build_embedder(resolve("all-minilm-l6-v2", None))
    try:
        stored = np.asarray(engine.submit(engine.rows([rest for _, rest in texts], "document").tokens).result())
        vectors = np.asarray(engine.submit(engine.rows(asked, "query").tokens).result())
    finally:
        engine.close()
    with tempfile.TemporaryDirectory() as folder:
        about = About(name="bench", model="all-minilm-l6-v2", digest="", width=stored.shape[1])
        index = Index.create(Path(folder) / "index", about)
        index.put(Document("texts", "", 1, 1), [Passage(rest) for _, rest in texts], stored)
        ranks, scores = measured(index, asked, vectors)
    chance = np.random.default_rng(0)
    drawn = chance.integers(0, len(asked), (4000, len(asked)))
    better = (ranks["allmend"] - ranks["reciprocal rank fusion"])[drawn].mean(axis=1)
    machine = {key: value for key, value in environment().items() if key != "machine"}
    machine |= {name: importlib.metadata.version(name) for name in ("numpy", "scipy")}
    result = {
        "command": "python bench/documents.py",
        "machine": machine,
        "texts": len(texts),
        "questions": len(asked),
        "orders": {
            name: {
                "mean_reciprocal_rank": round(float(values.mean()), 4),
                "first": round(float((values == 1).mean()), 3),
                "among_five": round(float((values >= 0.2).mean()), 3),
            }
            for name, values in ranks.items()
        },
        "better_than_fusion": {
            "mean_reciprocal_rank": round(float(better.mean()), 4),
            "interval_95": [round(float(edge), 4) for edge in np.quantile(better, (0.025, 0.975))],
        },
        "scores": {
            "right_text_quartiles": np.quantile([right for right, _ in scores], (0.25, 0.5, 0.75)).round(3).tolist(),
            "best_wrong_text_quartiles": np.quantile([wrong for _, wrong in scores], (0.25, 0.5, 0.75))
            .round(3)
            .tolist(),
        },
    }
    text = json.dumps(result, indent=2)
    Path(__file__).with_suffix(".json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
