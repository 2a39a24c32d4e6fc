"""One side of the comparison, in a process of its own: trains a few steps and prints what it took as JSON.

    python bench/tune/side.py SIDE KIND STEPS ROWS

SIDE is `allmend`, `allmend-plain` (all tricks off but bf16), `allmend:TRICK` (without one), `trl-default`, `trl-best`.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from content import rows as content

from allmend.models import resolve
from allmend.models.loading import load

RATE, RANK, ALPHA = 5e-4, 16, 32.0


def matmul_peak(size: int = 2048) -> float:
    """GFLOP a CPU second of a bf16 product, best of several."""
    x, y = (torch.randn(size, size).bfloat16() for _ in "xy")
    best = float("inf")
    for _ in range(6):
        start = time.process_time()
        x @ y
        best = min(best, time.process_time() - start)
    return 2 * size**3 / best / 1e9


def ours(name: str, kind: str, steps: int, count: int) -> dict[str, Any]:
    """allmend: the training loop's own passes and optimiser."""
    from allmend.adapters import LoraConfig, attach
    from allmend.tuning.optimiser import AdamW
    from allmend.tuning.passes import Passes
    from allmend.tuning.tricks import Tricks

    tricks = Tricks()
    if name == "allmend-plain":
        tricks = Tricks.none()
    elif ":" in name:
        tricks = Tricks.without(name.partition(":")[2])
    loaded = load(resolve("gemma-3-270m"))
    rows = content(kind, steps * count, loaded.tokenizer)
    lora = attach(loaded.model, LoraConfig(rank=RANK, alpha=ALPHA), seed=0)
    passes = Passes.of(loaded, lora, tricks, 2048)
    optimiser = AdamW(lora.parameters(), betas=(0.9, 0.999))
    loaded.model.train()
    took, losses = [], []
    for step in range(steps):
        start = time.process_time(), time.perf_counter()
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
        losses.append(total)
        took.append((time.process_time() - start[0], time.perf_counter() - start[1], sum(map(len, batch))))
    return {"took": took, "losses": losses, "choices": {one.name: one.value for one in passes.choices}}


def trl(name: str, kind: str, steps: int, count: int) -> dict[str, Any]:
    """TRL's SFTTrainer with PEFT, on the same token ids and masks, in the same order."""
    import peft
    import transformers
    import trl as library
    from datasets import Dataset

    loaded = load(resolve("gemma-3-270m"))
    folder, tokenizer = loaded.folder, loaded.tokenizer
    rows = content(kind, steps * count, tokenizer)
    del loaded
    took: list[tuple[float, float, int]] = []

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.process_time(), time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            step = len(took)
            tokens = sum(map(len, rows[step * count : (step + 1) * count]))
            took.append((time.process_time() - self.start[0], time.perf_counter() - self.start[1], tokens))

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
    return {"took": took, "losses": [float(loss) for loss in losses], "trl": library.__version__}


def main() -> None:
    """Run and print."""
    name, kind, steps, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    before = matmul_peak()
    found = (trl if name.startswith("trl") else ours)(name, kind, steps, count)
    found |= {
        "side": name,
        "kind": kind,
        "matmul_gflops": round(max(before, matmul_peak())),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "threads": torch.get_num_threads(),
    }
    Path(sys.argv[5]).write_text(json.dumps(found)) if len(sys.argv) > 5 else print(json.dumps(found))


if __name__ == "__main__":
    main()
