"""Optuna with TRL's SFTTrainer, started anew for each trial, until the time is over: one side of `against_trl.py`.

    python bench/search/trl_side.py TASK SEED SECONDS ROWS_A_TRIAL RESULT MODEL

The same held-out rows as the other side. Settings that were found fastest on a CPU (weights in
bf16 where the processor has it, no autocast, no checkpointing), Optuna's TPE over the same ranges, the model loaded
for each trial, as tools that wire the two together do.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import torch
from tasks import dataset

from allmend import data
from allmend.adapters import attach_weights, read
from allmend.models import resolve
from allmend.models.loading import load
from allmend.verdicts.measure import answer_labels


def main() -> None:
    """Search, judge, write."""
    task, seed, seconds, rows_a_trial, target, model = (
        sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]), sys.argv[6],
    )  # fmt: skip
    begun = time.monotonic()
    import peft
    import transformers
    import trl
    from datasets import Dataset

    loaded = load(resolve(model))
    folder, tokenizer, kind = loaded.folder, loaded.tokenizer, str(loaded.dtype).removeprefix("torch.")
    template, context = data.of_tokenizer(tokenizer), loaded.context
    found = dataset(task, seed, shuffled=True)
    del loaded
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    def rows(part: Any) -> Any:
        encoded = data.encode_rows(part, tokenizer, template, context=context)
        return Dataset.from_list([{"input_ids": row.ids, "completion_mask": list(row.mask)} for row in encoded])

    train, select = rows(found.train[:rows_a_trial]), rows(found.select)
    # Judging takes its share of the time, as it does on the other side; measured there at about a minute at most.
    end = begun + seconds - min(60.0, seconds * 0.2)
    best: dict[str, Any] = {"loss": float("inf"), "folder": None}
    finished: list[dict[str, Any]] = []

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            if time.monotonic() > end:
                control.should_training_stop = True
            return control

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("learning_rate", 1e-4, 2.25e-3, log=True)
        rank = trial.suggest_categorical("rank", [8, 16, 64])
        batch = trial.suggest_categorical("batch", [8, 16, 32])
        place = target.parent / f"trl-{task}-{seed}-{trial.number}"
        trainer = trl.SFTTrainer(
            model=str(folder),
            args=trl.SFTConfig(
                output_dir=str(place), num_train_epochs=1, learning_rate=rate, per_device_train_batch_size=batch,
                per_device_eval_batch_size=16, logging_steps=1, report_to="none", save_strategy="no", use_cpu=True,
                dataloader_pin_memory=False, completion_only_loss=True, disable_tqdm=True, seed=seed,
                gradient_checkpointing=False, bf16=False,
                model_init_kwargs={"dtype": kind, "attn_implementation": "sdpa"},
            ),
            train_dataset=train,
            eval_dataset=select,
            processing_class=tokenizer,
            peft_config=peft.LoraConfig(r=rank, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[Clock()],
        )  # fmt: skip
        trainer.train()
        loss = float(trainer.evaluate()["eval_loss"])
        if loss < best["loss"]:
            trainer.model.save_pretrained(place)
            best.update(loss=loss, folder=str(place))
        whole = trainer.state.global_step >= -(-rows_a_trial // batch)
        finished.append({"loss": loss, "rate": rate, "rank": rank, "batch": batch, "whole": whole,
                         "at": time.monotonic() - begun})  # fmt: skip
        return loss

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    while time.monotonic() < end:
        study.optimize(objective, n_trials=1)
    searched = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    loaded = load(resolve(model))
    attach_weights(loaded.model, read(best["folder"]))
    given = answer_labels(loaded, found.held_out, found.labels or [], template).labels
    right = [float(one == row.completion) for one, row in zip(given, found.held_out, strict=True)]
    result = {
        "accuracy": sum(right) / len(right), "right": right, "trials_begun": len(finished),
        "trials_finished": sum(one["whole"] for one in finished), "peak_mib": peak, "searched_seconds": searched,
        "processor_seconds": time.monotonic() - begun,
        "trials": finished, "select_loss": best["loss"], "threads": torch.get_num_threads(),
    }  # fmt: skip
    target.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
