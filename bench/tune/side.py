"""One side of the comparison, in a process of its own: takes a training step each time it is told to.

    python bench/tune/side.py SIDE MODEL KIND STEPS ROWS

SIDE is `allmend`, `allmend-plain` (all tricks off but bf16), `trl-default` or `trl-best`. For each line on stdin one
step; for each step a line of JSON on stdout, and one more at the end. So several sides can take turns, step by step.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from typing import Any

import torch
from content import rows as content
from shapes import resolved

from allmend.models.loading import load

RATE, RANK, ALPHA = 5e-4, 16, 32.0
_SAY = os.fdopen(os.dup(1), "w", buffering=1)
"""The real stdout: libraries print to the other one."""
os.dup2(2, 1)


def matmul_peak(size: int = 2048) -> float:
    """GFLOP a CPU second of a bf16 product, best of several."""
    x, y = (torch.randn(size, size).bfloat16() for _ in "xy")
    best = float("inf")
    for _ in range(6):
        start = time.process_time()
        x @ y
        best = min(best, time.process_time() - start)
    return 2 * size**3 / best / 1e9


class Turn:
    """Waits for its turn, and tells what a step took."""

    def begin(self) -> None:
        """Wait for a line on stdin."""
        sys.stdin.readline()
        self.start = time.process_time(), time.perf_counter()

    def end(self, tokens: int, loss: float | None = None) -> None:
        """Say what it took."""
        took = {"cpu": time.process_time() - self.start[0], "wall": time.perf_counter() - self.start[1]}
        _SAY.write(json.dumps(took | {"tokens": tokens, "loss": loss}) + "\n")


def ours(name: str, model: str, kind: str, steps: int, count: int) -> dict[str, Any]:
    """allmend: the training loop's own passes and optimiser."""
    from allmend.adapters import LoraConfig, attach
    from allmend.tuning.optimiser import AdamW
    from allmend.tuning.passes import Passes
    from allmend.tuning.tricks import Tricks

    tricks = Tricks.none() if name == "allmend-plain" else Tricks()
    loaded = load(resolved(model), "bfloat16")
    rows = content(kind, steps * count, vocabulary=loaded.model.config.get_text_config().vocab_size)
    lora = attach(loaded.model, LoraConfig(rank=RANK, alpha=ALPHA), seed=0)
    passes = Passes.of(loaded, lora, tricks, 2048)
    optimiser = AdamW(lora.parameters(), betas=(0.9, 0.999))
    loaded.model.train()
    turn = Turn()
    for step in range(steps):
        turn.begin()
        batch = rows[step * count : (step + 1) * count]
        packs = passes.packs(batch)
        learned = sum(pack.targets.numel() for pack in packs)
        total = 0.0
        for pack in packs:
            loss = passes.loss(pack) / learned
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(lora.parameters(), 1.0)
        optimiser.step(RATE)
        passes.stepped()
        turn.end(sum(map(len, batch)), total)
    head = loaded.model.get_output_embeddings()
    body = sum(one.base.weight.numel() for one in lora.layers.values())
    learned_weights = sum(weight.numel() for weight in lora.parameters())
    return {
        "choices": {one.name: one.value for one in passes.choices},
        "body_weights": body,
        "head_weights": head.weight.numel(),
        "lora_weights": learned_weights,
    }


def trl(name: str, model: str, kind: str, steps: int, count: int) -> dict[str, Any]:
    """TRL's SFTTrainer with PEFT, on the same token ids and masks, in the same order."""
    import peft
    import transformers
    import trl as library
    from datasets import Dataset

    loaded = load(resolved(model), "bfloat16")
    folder, tokenizer = loaded.folder, loaded.tokenizer
    rows = content(kind, steps * count, vocabulary=loaded.model.config.get_text_config().vocab_size)
    del loaded
    turn = Turn()

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        step = 0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            turn.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turn.end(sum(map(len, rows[self.step * count : (self.step + 1) * count])))
            self.step += 1

    settings: dict[str, Any] = {"per_device_train_batch_size": count}
    if name == "trl-best":
        settings |= {
            "gradient_checkpointing": False,
            "bf16": False,  # the model is in bf16 already: no autocast
            "model_init_kwargs": {"dtype": "bfloat16", "attn_implementation": "sdpa"},
        }
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    with tempfile.TemporaryDirectory() as where:
        trainer = library.SFTTrainer(
            model=str(folder),
            args=library.SFTConfig(
                output_dir=where,
                max_steps=steps,
                learning_rate=RATE,
                lr_scheduler_type="constant",
                logging_steps=1,
                report_to="none",
                save_strategy="no",
                use_cpu=True,
                train_sampling_strategy="sequential",
                dataloader_pin_memory=False,
                completion_only_loss=True,  # of rows that come tokenised, TRL would learn the prompts too
                disable_tqdm=True,
                **settings,
            ),
            train_dataset=Dataset.from_list(
                [{"input_ids": row.ids, "completion_mask": list(row.mask)} for row in rows]
            ),
            processing_class=tokenizer,
            peft_config=peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[Clock()],
        )
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"losses": [float(loss) for loss in losses], "trl": library.__version__}


def main() -> None:
    """Run, and say at the end what was measured once."""
    name, model, kind, steps, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    before = matmul_peak()
    found = (trl if name.startswith("trl") else ours)(name, model, kind, steps, count)
    found |= {
        "matmul_gflops": round(max(before, matmul_peak())),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "threads": torch.get_num_threads(),
    }
    _SAY.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
