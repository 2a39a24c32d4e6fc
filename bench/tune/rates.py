"""Which learning rate is best for Gemma 3 270M on the reviews at equal steps, beside what the formula says.

    OMP_NUM_THREADS=1 python bench/tune/rates.py [--steps 30] [--rates 1.4e-4 5.5e-4 …]

One training for each rate, all alike but for it: the same rows in the same order, the same first weights of the LoRA
(rank 16, alpha 32), warm-up and decay as `tune` has them; the figure is the loss on selection rows at the end. The
formula was fitted to Llama and Qwen models, so for Gemma it is a guess that this looks at. Each rate is put into
`rates.json` beside the others, so it can be stopped and gone on with. About half a minute of a core a rate.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import page
from against import machine, versions
from shapes import resolved

from allmend import data
from allmend.adapters import LoraConfig, attach, detach
from allmend.data import encode_rows, of_tokenizer
from allmend.models.loading import load
from allmend.models.rated_rows import examples_file
from allmend.tuning.loop import Plan, train
from allmend.tuning.rates import first_rate

FILE = Path(__file__).with_suffix(".json")
SELECT = 100


def one(loaded: Any, rows: list[Any], select: list[Any], rate: float, steps: int, seed: int) -> dict[str, Any]:
    """Train once."""
    lora = attach(loaded.model, LoraConfig(rank=16, alpha=32), seed=seed)
    try:
        with tempfile.TemporaryDirectory() as folder:
            plan = Plan(steps=steps, rate=rate, batch_rows=16, seed=seed, evaluations=1)
            outcome = train(loaded, lora, rows, select, plan, Path(folder))
    finally:
        detach(loaded.model, lora)
    return {"rate": rate, "steps": steps, "seed": seed, "select_loss": outcome.select_losses[-1][1],
            "last_losses": outcome.losses[-5:]}  # fmt: skip


def main() -> None:
    """Run what is missing and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rates", type=float, nargs="+", default=[5.5e-4, 1.6e-3, 1.8e-4, 4.9e-3])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    result = json.loads(FILE.read_text()) if FILE.is_file() else {"runs": []}
    done = {(run["rate"], run["steps"], run["seed"]) for run in result["runs"]}
    loaded = load(resolved("gemma-3-270m"), "bfloat16")
    config = loaded.model.config.get_text_config()
    dataset = data.load(examples_file("movie-reviews"), seed=0)
    template = of_tokenizer(loaded.tokenizer)
    # Drawn, since the file is in the order of its ratings.
    chance = random.Random(0)
    train_rows, select_rows = chance.sample(dataset.train, 16 * settings.steps), chance.sample(dataset.select, SELECT)
    rows = list(encode_rows(train_rows, loaded.tokenizer, template))
    select = list(encode_rows(select_rows, loaded.tokenizer, template))
    for rate in settings.rates:
        if (rate, settings.steps, settings.seed) in done:
            continue
        result["runs"].append(one(loaded, rows, select, rate, settings.steps, settings.seed))
        print(result["runs"][-1], flush=True)
        result["runs"].sort(key=lambda run: (run["steps"], run["seed"], run["rate"]))
        result |= {
            "command": " ".join(["OMP_NUM_THREADS=" + os.environ.get("OMP_NUM_THREADS", ""), "python", *sys.argv]),
            "formula": first_rate(int(config.hidden_size), str(config.model_type)),
            "machine": machine(),
            "versions": versions(),
        }
        FILE.write_text(json.dumps(result, indent=1) + "\n")
    lines = [
        [f"{run['rate']:g}", str(run["steps"]), str(run["seed"]), f"{run['select_loss']:.4f}"] for run in result["runs"]
    ]
    page.put("rates", page.rows(["rate", "steps", "seed", "selection loss"], lines))


if __name__ == "__main__":
    main()
