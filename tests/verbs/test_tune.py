"""`allmend tune` and `allmend verdict` end to end on a two-layer model, as a person runs them."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file

import tiny
from allmend import runs
from allmend.cli import run as run_command
from allmend.cli.show import notes
from allmend.errors import InputError
from allmend.nouns.run import Run
from allmend.nouns.verdict import Verdict
from allmend.verbs.tune import tune
from allmend.verbs.verdict import verdict


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny.model("llama", initializer_range=0.15).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def table(path: Path, count: int = 240, seed: int = 0) -> Path:
    """Rows whose label stands in the prompt; as csv or jsonl, by the name."""
    numbers = random.Random(seed)
    rows = []
    for _ in range(count):
        label = numbers.choice(["cat", "dog"])
        words = " ".join("".join(numbers.choices("abcdefgh", k=4)) for _ in range(3))
        rows.append((f"{words} {label}?", label))
    with path.open("w", newline="") as handle:
        if path.suffix == ".csv":
            csv.writer(handle).writerows([("prompt", "completion"), *rows])
        else:
            handle.writelines(json.dumps({"prompt": a, "completion": b}) + "\n" for a, b in rows)
    return path


FAST: dict[str, Any] = {"budget": "20s", "rank": 4, "learning_rate": 1e-2, "dtype": "float32", "epochs": 8}
FLAGS = ("--budget", "20s", "--rank", "4", "--learning-rate", "1e-2", "--dtype", "float32", "--epochs", "8")


def command(home: Path, *words: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "allmend", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "ALLMEND_HOME": str(home)},
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model: Path) -> tuple[Path, Run, str]:
    """A run of the real command: (home, what it printed as JSON, what it said)."""
    folder = tmp_path_factory.mktemp("tune")
    table(folder / "rows.csv")
    answer = command(folder / "home", "tune", str(folder / "rows.csv"), "--model", str(model), *FLAGS, "--json")
    assert answer.returncode == 0, answer.stderr
    return folder / "home", Run.from_json(answer.stdout), answer.stderr


def test_it_ends_in_a_recorded_run(finished: tuple[Path, Run, str]) -> None:
    _, run, said = finished
    assert run.state == "done" and run.verb == "tune" and Path(run.folder).is_dir()
    assert {file.name for file in run.inputs} == {"data", "model"} and all(file.sha256 for file in run.inputs)
    for name in ("device", "dtype", "threads", "template", "splits", "packing", "steps", "best_step"):
        assert run.choice(name) is not None, name
    assert run.choice("packing") is True and run.choice("template") == "allmend-plain/1"
    assert all(choice.reason for choice in run.choices)
    assert {"loss", "select_loss", "learning_rate", "untuned_accuracy"} <= {metric.name for metric in run.metrics}
    assert run.metric("loss").points == run.choice("steps")  # type: ignore[union-attr]
    assert run.settings["rank"] == 4 and run.settings["budget"] == 20.0
    assert "tokens a row" in said and "Traceback" not in said


def test_the_adapter_is_peft_s_and_the_verdict_counts(finished: tuple[Path, Run, str]) -> None:
    _, run, _ = finished
    for name in ("adapter", "adapter-last"):
        folder = Path(run.output(name) or "")
        loaded = peft.PeftModel.from_pretrained(tiny.model("llama", initializer_range=0.15), folder)
        assert any("lora_B" in key and weight.abs().max() > 0 for key, weight in loaded.named_parameters())
        assert (folder / "chat_template.jinja").is_file()
    found = Verdict.from_json(Path(run.output("verdict") or "").read_text())
    assert found.words == "better", found.main
    assert found.run == run.id and found.held_out_rows == run.choice("splits")["held_out"]
    assert found.main.name == "accuracy" and found.main.tuned > 0.8


def test_the_verdict_again_is_the_same_and_other_rows_can_be_judged(
    finished: tuple[Path, Run, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, run, _ = finished
    monkeypatch.setenv("ALLMEND_HOME", str(home))
    first = Verdict.from_json(Path(run.output("verdict") or "").read_text())
    again = verdict(run.id, free_text_rows=0, few_shot=0, forgetting=False)
    assert again.main == first.main and (again.gained, again.lost) == (first.gained, first.lost)
    assert runs.show("last").verb == "verdict" and runs.show("last").state == "done"
    theirs = table(tmp_path / "other.jsonl", 60, seed=7)
    other = verdict("last:tune", data=theirs, free_text_rows=0, forgetting=False)
    assert other.held_out_rows == 60 and other.main.name == "accuracy"
    shown = command(home, "verdict", run.id, "--free-text-rows", "0", "--few-shot", "0", "--no-forgetting", "--json")
    assert Verdict.from_json(shown.stdout).main == first.main
    # The file is another by now: its held-out rows would be others too.
    data = Path(next(file.path for file in run.inputs if file.name == "data"))
    whole = data.read_text()
    try:
        data.write_text(whole + "new row cat?,cat\n")
        with pytest.raises(InputError, match="has changed"):
            verdict(run.id)
    finally:
        data.write_text(whole)


def test_the_same_seed_gives_the_same_adapter(home: Path, tmp_path: Path, model: Path) -> None:
    data = table(tmp_path / "rows.jsonl", 80)
    settings = {**FAST, "epochs": 1, "dropout": 0.1}
    states = []
    for _ in range(2):
        run = tune(data, model=str(model), **settings)
        states.append(load_file(Path(run.output("adapter-last") or "") / "adapter_model.safetensors"))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert runs.show("last").choice("continues") is None


def test_killed_in_the_middle_the_same_command_continues(home: Path, tmp_path: Path, model: Path) -> None:
    data = table(tmp_path / "rows.jsonl")
    words = ("tune", str(data), "--model", str(model), "--budget", "6s", "--epochs", "2000", "--dtype", "float32")
    process = subprocess.Popen(
        [sys.executable, "-m", "allmend", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "ALLMEND_HOME": str(home)},
    )
    try:
        for _ in range(600):
            if list(home.glob("runs/*/last.safetensors")):
                break
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(0.3)
    finally:
        process.kill()
        process.wait(30)
    killed = runs.show("last")
    assert killed.state == "interrupted" and killed.output("adapter") is None
    answer = command(home, *words, "--json")
    assert answer.returncode == 0, answer.stderr
    run = Run.from_json(answer.stdout)
    assert run.choice("continues") == killed.id
    done = killed.metric("loss")
    assert done is not None and min(point.step for point in runs.series(run.id, "loss")) > 1
    assert runs.list(verb="tune", limit=1)[0].state == "done"
    # Finished: the next one begins anew.
    assert Path(run.output("adapter") or "").is_dir()


def test_stopped_by_ctrl_c_it_keeps_what_it_has(home: Path, tmp_path: Path, model: Path) -> None:
    data = table(tmp_path / "rows.jsonl")
    process = subprocess.Popen(
        [sys.executable, "-m", "allmend", "tune", str(data), "--model", str(model), "--epochs", "5000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ALLMEND_HOME": str(home)},
    )
    try:
        while not list(home.glob("runs/*/last.safetensors")):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait(30)
    assert process.returncode == 130, said
    assert "Stopped" in said and "Traceback" not in said
    run = runs.show("last")
    assert run.state == "interrupted" and Path(run.output("adapter-last") or "").is_dir()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "words", "code", "said"),
    [
        ("", (), 4, "rows.csv"),
        ("prompt,completion\n", (), 4, "rows.csv"),
        ("prompt,completion\n" + "".join(f"question {n},yes\n" for n in range(40)), (), 4, "nothing to tell apart"),
        ("prompt,completion\na?,yes\n\"b?,no\n", (), 4, "rows.csv"),
        (None, (), 5, "rows.csv"),
        ("good", ("--template", "nonsense/9"), 2, "allmend-plain/1"),
        ("good", ("--model", "./nowhere"), 5, "nowhere"),
        ("good", ("--targets", "q_prj"), 2, "q_proj"),
        ("good", ("--dtype", "float61"), 2, "float"),
        ("good", ("--prompt-column", "promt"), 2, "prompt"),
        ("good", ("--budget", "1ms"), 7, "--budget"),
        ("prompt,completion\n" + "".join(f"question {n},{n:0600d}\n" for n in range(9)), (), 4, "answer alone"),
    ],
    ids=["empty", "header", "class", "cut", "missing", "template", "model", "target", "dtype", "column", "ms", "long"],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_code(
    home: Path,
    tmp_path: Path,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    """In this process, since most of the time of each would go into importing torch; all else is the command."""
    notes.cache_clear()
    data = tmp_path / "rows.csv"
    if text == "good":
        table(data, 60)
    elif text is not None:
        data.write_text(text)
    named = words if "--model" in words else ("--model", str(model), *words)
    found = run_command(["tune", str(data), *named])
    notes.cache_clear()
    shown = capsys.readouterr().err
    assert found == code, shown
    assert said in shown and "Traceback" not in shown and "inside allmend" not in shown
    assert not list(home.glob("runs/*/adapter*"))


def test_one_class_through_the_real_command(tmp_path: Path, model: Path) -> None:
    data = write(tmp_path / "rows.csv", "prompt,completion\n" + "".join(f"question {n},yes\n" for n in range(40)))
    answer = command(tmp_path / "home", "tune", str(data), "--model", str(model))
    assert answer.returncode == 4 and "nothing to tell apart" in answer.stderr and answer.stdout == ""


def test_rows_longer_than_the_context_lose_their_start(home: Path, tmp_path: Path, model: Path) -> None:
    """The label stands at the end of the prompt, so what is kept is enough to learn it."""
    data = tmp_path / "rows.jsonl"
    numbers = random.Random(1)
    with data.open("w") as handle:
        for _ in range(60):
            label = numbers.choice(["cat", "dog"])
            words = " ".join("".join(numbers.choices("abcdefgh", k=5)) for _ in range(110))
            handle.write(json.dumps({"prompt": f"{words} {label}?", "completion": label}) + "\n")
    run = tune(data, model=str(model), **{**FAST, "epochs": 1})
    found = Verdict.from_json(Path(run.output("verdict") or "").read_text())
    assert any("longer than the context" in note for note in found.notes)


def test_bad_rows_stop_it_unless_skipped(home: Path, tmp_path: Path, model: Path) -> None:
    data = table(tmp_path / "rows.jsonl", 60)
    with data.open("a") as handle:
        handle.write('{"prompt": "no completion"}\n')
    with pytest.raises(InputError) as caught:
        tune(data, model=str(model), **FAST)
    assert "61" in f"{caught.value.where}"
    run = tune(data, model=str(model), skip_bad=True, **{**FAST, "epochs": 1})
    assert run.state == "done"
