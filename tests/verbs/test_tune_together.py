"""`allmend tune` in two processes that divide the model's weights, started by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from allmend.errors import UsageError
from allmend.nouns.run import Run
from allmend.nouns.verdict import Verdict
from allmend.verbs.tune import tune


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    lines = [f"{['good', 'bad'][n % 2]} film {n},{['pos', 'neg'][n % 2]}" for n in range(60)]
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    tiny.model("llama", initializer_range=0.15).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def test_divided_weights_end_in_a_model_that_others_read(tmp_path: Path, rows: Path, model: Path) -> None:
    home = tmp_path / "home"
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
            "--local-ranks-filter=0",
            "-m", "allmend", "tune", str(rows), "--model", str(model), "--shard", "all", "--budget", "60s",
            "--epochs", "2", "--dtype", "float32", "--json",
            "--full", "--learning-rate", "1e-3"]  # fmt: skip
    environment = {**os.environ, "ALLMEND_HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    run = Run.from_json(done.stdout)
    assert run.choice("shard") == "all" and run.choice("processes") == 2
    assert run.choice("layers") == "the model's own"
    verdict = Verdict.from_json(Path(run.output("verdict") or "").read_text())
    assert verdict.held_out_rows == run.choice("splits")["held_out"]
    before = AutoModelForCausalLM.from_pretrained(model).state_dict()
    after = AutoModelForCausalLM.from_pretrained(run.output("model")).state_dict()
    assert before.keys() == after.keys()
    assert all(weight.shape == before[name].shape and weight.isfinite().all() for name, weight in after.items())
    assert any(not torch.equal(weight, before[name]) for name, weight in after.items())


def test_one_process_has_nobody_to_divide_with(
    rows: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    with pytest.raises(UsageError, match="one process only"):
        tune(rows, model=str(model), shard="all", budget=20)
