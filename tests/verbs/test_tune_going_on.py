"""Going on with a tune after a disk that was full, past a run that was killed before its first checkpoint."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny
from allmend import runs

WORDS = ("--trials", "1", "--dtype", "float32", "--rank", "256", "--epochs", "3000", "--budget", "10m")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny.model("llama", initializer_range=0.15).save_pretrained(tmp_path / "tiny")
    tiny.tokenizer().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    numbers = random.Random(0)
    rows = [{"prompt": f"{''.join(numbers.choices('abcdefgh', k=6))} {label}?", "completion": label}
            for label in ("cat", "dog") * 30]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "rows.jsonl"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def begun(home: Path, data: Path, model: Path) -> tuple[subprocess.Popen[str], Path]:
    """A tune in a process of its own that has a plan and a checkpoint, and its folder."""
    before = set(home.glob("runs/*"))
    process = subprocess.Popen(
        [sys.executable, "-m", "allmend", "tune", str(data), "--model", str(model), *WORDS],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "ALLMEND_HOME": str(home)},
    )  # fmt: skip
    while True:
        for folder in set(home.glob("runs/*")) - before:
            if (folder / "plan.json").is_file() and (folder / "last.safetensors").is_file():
                return process, folder
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process can be set on Linux only")
def test_a_disk_that_fills_up_in_the_middle_is_told_and_the_same_command_goes_on(
    home: Path, data: Path, model: Path
) -> None:
    process, full = begun(home, data, model)
    try:
        # From now on no file grows beyond less than a checkpoint, and more than the database.
        size = (full / "last.safetensors").stat().st_size
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size - 1, size - 1))
        said = process.communicate(timeout=200)[1]
    finally:
        process.kill()
    assert process.returncode == 7, said
    assert "cannot be written: File too large" in said and "goes on" in said and "Traceback" not in said
    assert not list(full.glob(".*.new")) and runs.show(full.name).state == "failed"
    # The same work again, killed before it had a checkpoint: what the first one reached is not lost by it.
    with pytest.raises(KeyboardInterrupt), runs.record("tune") as killed:
        shutil.copy(full / "key", killed.folder / "key")
        raise KeyboardInterrupt
    process, again = begun(home, data, model)
    process.kill()
    process.communicate()
    assert runs.show(again.name).choice("continues") == full.name
