"""Three adapters in one step against three steps, one after another: tokens a second.

    python bench/search/at_once.py [--rounds 3] [--batch 4] [--model gemma-3-270m]

Apart is measured twice: with the model's own layers, as the joint step has them, and with the fast path that training
really takes. In turns, medians of several rounds; a minute or two on two cores. Their losses have to agree.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from adapters_together import AtOnce
from tasks import dataset, machine

from allmend import data
from allmend.adapters import LoraConfig, attach, detach
from allmend.models import resolve
from allmend.models.loading import load
from allmend.tuning.passes import Passes
from allmend.tuning.tricks import Tricks

SIBLINGS = 3


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--model", default="gemma-3-270m")
    given = parser.parse_args()
    loaded = load(resolve(given.model))
    found = dataset("movie-reviews", 0, shuffled=True)
    template = data.of_tokenizer(loaded.tokenizer)
    rows = list(data.encode_rows(found.train[: SIBLINGS * given.batch], loaded.tokenizer, template, context=256))
    batches = [rows[number * given.batch : (number + 1) * given.batch] for number in range(SIBLINGS)]
    tokens = sum(map(len, rows))
    loras = []
    for seed in range(SIBLINGS):
        lora = attach(loaded.model, LoraConfig(rank=16), seed=seed)
        detach(loaded.model, lora)
        loras.append(lora)

    def at_once() -> Callable[[], None]:
        together = AtOnce(loaded, loras)

        def step() -> None:
            torch.stack(together.losses(batches)).sum().backward()

        step.close = together.close  # type: ignore[attr-defined]
        return step

    def check_equal() -> None:
        """Both ways give each adapter the same loss."""
        together = AtOnce(loaded, loras)
        joint = [float(loss) for loss in together.losses(batches)]
        together.close()
        for number, batch in enumerate(batches):
            lora = attach(loaded.model, LoraConfig(rank=16), seed=number)
            passes = Passes.of(loaded, lora, Tricks.none(), 2048)
            packs = passes.packs(batch)
            alone = sum(float(passes.loss(pack)) for pack in packs) / sum(pack.targets.numel() for pack in packs)
            passes.close()
            detach(loaded.model, lora)
            if abs(joint[number] - alone) > 1e-2 * abs(alone):
                raise SystemExit(f"adapter {number}: {joint[number]} together, {alone} alone")

    def apart(tricks: Tricks) -> Callable[[], None]:
        lora = attach(loaded.model, LoraConfig(rank=16), seed=0)
        passes = Passes.of(loaded, lora, tricks, 2048)

        def step() -> None:
            for batch in batches:
                for pack in passes.packs(batch):
                    passes.loss(pack).backward()

        def close() -> None:
            passes.close()
            detach(loaded.model, lora)

        step.close = close  # type: ignore[attr-defined]
        return step

    sides = {
        "at once": at_once,
        "apart, the model's own layers": lambda: apart(Tricks.without("lean_layers")),
        "apart, fast path": lambda: apart(Tricks()),
    }
    check_equal()
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    loaded.model.train()
    for _ in range(given.rounds):
        for name, make in sides.items():
            step = make()
            step()
            begun = time.perf_counter()
            step()
            speeds[name].append(tokens / (time.perf_counter() - begun))
            step.close()  # type: ignore[attr-defined]
    result = {
        "command": "python " + " ".join(sys.argv), "machine": machine(), "threads": torch.get_num_threads(),
        "adapters": SIBLINGS, "rows_each": given.batch, "tokens_a_step": tokens,
        "tokens_per_second": {name: round(statistics.median(values), 1) for name, values in speeds.items()},
    }  # fmt: skip
    (Path(__file__).parent / "at_once.json").write_text(json.dumps(result, indent=1) + "\n")
    print(result["tokens_per_second"])


if __name__ == "__main__":
    main()
