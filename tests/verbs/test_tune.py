"""`allmend tune` and `allmend verdict` end to end on a two-layer model, as a person runs them."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

import tiny
from allmend import runs
from allmend.adapters import read
from allmend.cli import run_command
from allmend.cli.show import notes
from allmend.errors import DoesNotFit, InputError, UsageError
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
    words = ("tune", str(data), "--model", str(model), "--trials", "1", "--budget", "20s", "--epochs", "2000")
    words += ("--dtype", "float32")
    process = subprocess.Popen(
        [sys.executable, "-m", "allmend", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "ALLMEND_HOME": str(home)},
    )
    try:
        until = time.monotonic() + 300
        while not list(home.glob("runs/*/last.safetensors")):
            assert process.poll() is None and time.monotonic() < until
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
        [
            sys.executable,
            "-m",
            "allmend",
            "tune",
            str(data),
            "--model",
            str(model),
            "--epochs",
            "5000",
            "--trials",
            "1",
        ],
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
        _, said = process.communicate(timeout=300)
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


@pytest.mark.parametrize(
    ("settings", "choices"),
    [
        ({"base_bits": 4}, {"base_bits": 4, "layers": "lean"}),
        ({"base_bits": 8, "dora": True}, {"base_bits": 8, "layers": "lean"}),
        ({"dora": True, "rslora": True}, {"layers": "lean"}),
        ({"dropout": 0.1}, {"layers": "lean"}),
    ],
    ids=["4bit", "8bit-dora", "dora-rslora", "dropout"],
)
def test_options_of_a_lora_come_out_as_peft_reads_them(
    home: Path, tmp_path: Path, model: Path, settings: dict[str, Any], choices: dict[str, Any]
) -> None:
    run = tune(table(tmp_path / "rows.jsonl", 60), model=str(model), **{**FAST, "epochs": 2}, **settings)
    assert {name: run.choice(name) for name in choices} == choices
    folder = Path(run.output("adapter") or "")
    loaded = peft.PeftModel.from_pretrained(tiny.model("llama", initializer_range=0.15), folder)
    config = loaded.peft_config["default"]
    assert (config.use_dora, config.use_rslora) == (settings.get("dora", False), settings.get("rslora", False))
    assert read(folder).base_bits == settings.get("base_bits")
    again = verdict(run.id, free_text_rows=0, few_shot=0, forgetting=False)
    assert again.main == Verdict.from_json(Path(run.output("verdict") or "").read_text()).main


def test_full_fine_tuning_ends_in_a_model_folder(home: Path, tmp_path: Path, model: Path) -> None:
    data = table(tmp_path / "rows.jsonl")
    run = tune(data, model=str(model), **{**FAST, "learning_rate": 2e-3}, full=True)
    found = Verdict.from_json(Path(run.output("verdict") or "").read_text())
    assert found.words == "better", found.main
    folder = Path(run.output("model") or "")
    assert run.output("adapter") is None and Path(run.output("model-last") or "").is_dir()
    tuned = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    before = tiny.model("llama", initializer_range=0.15).state_dict()
    assert all(not torch.equal(weight, before[name]) for name, weight in tuned.state_dict().items())
    assert (folder / "chat_template.jinja").is_file()
    # The folder is a model like any other.
    again = tune(data, model=str(folder), **{**FAST, "epochs": 1})
    assert again.state == "done"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"memory": "300M"}, "MiB may be used"),
        ({"memory": "100K", "full": True}, "learning all"),
    ],
)
def test_what_does_not_fit_is_told_with_what_would(
    home: Path, tmp_path: Path, model: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(DoesNotFit, match=said) as caught:
        tune(table(tmp_path / "rows.jsonl", 60), model=str(model), **FAST, **settings)
    assert caught.value.hint
    assert runs.show("last").state == "failed" and runs.show("last").output("adapter") is None


@pytest.mark.parametrize("settings", [{"base_bits": 4}, {"dora": True}, {"targets": ("q_proj",)}])
def test_full_and_what_belongs_to_a_lora_exclude_each_other(
    home: Path, tmp_path: Path, model: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="--full has not"):
        tune(table(tmp_path / "rows.jsonl", 60), model=str(model), full=True, **settings)


def interrupted(home: Path, data: Path, model: Path) -> Path:
    """A run that was killed with a checkpoint: its folder."""
    words = ("tune", str(data), "--model", str(model), "--epochs", "5000", "--trials", "1", "--dtype", "float32")
    process = subprocess.Popen(
        [sys.executable, "-m", "allmend", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "ALLMEND_HOME": str(home)},
    )
    try:
        while not list(home.glob("runs/*/last.safetensors")):
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait(30)
    return next(home.glob("runs/*/last.safetensors")).parent


def test_a_corrupt_checkpoint_is_told_and_a_fresh_start_works(home: Path, tmp_path: Path, model: Path) -> None:
    data = table(tmp_path / "rows.jsonl", 60)
    folder = interrupted(home, data, model)
    kept = (folder / "last.safetensors").read_bytes()
    (folder / "last.safetensors").write_bytes(kept[: len(kept) // 2])
    settings: dict[str, Any] = {"model": str(model), "epochs": 5000, "trials": 1, "dtype": "float32"}
    with pytest.raises(InputError, match="checkpoint is damaged") as caught:
        tune(data, **settings)
    assert "--fresh" in (caught.value.hint or "")
    assert [path.parent for path in home.glob("runs/*/adapter")] in ([], [folder])
    assert tune(data, **settings, budget="1s", fresh=True).state == "done"


def test_a_full_disk_leaves_the_checkpoint_before(home: Path, tmp_path: Path, model: Path) -> None:
    """Files may not grow beyond a limit that the adapter fits into and a whole checkpoint does not."""
    data = table(tmp_path / "rows.jsonl", 60)
    script = (
        "import resource, signal, sys\n"
        "from allmend.cli import run_command as run\n"
        "import allmend.verbs.tuning_work\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, resource.RLIM_INFINITY))\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    words = (
        "tune",
        str(data),
        "--model",
        str(model),
        "--rank",
        "256",
        "--epochs",
        "2",
        "--trials",
        "1",
        "--dtype",
        "float32",
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "ALLMEND_HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert answer.returncode == 7, answer.stderr
    assert "cannot be written: File too large" in answer.stderr and "Traceback" not in answer.stderr
    folder = next(home.glob("runs/*/plan.json")).parent
    assert not [path.name for path in folder.iterdir() if "last" in path.name]


def test_layers_that_the_configuration_does_not_know_are_told(home: Path, tmp_path: Path, model: Path) -> None:
    lying = tmp_path / "lying"
    shutil.copytree(model, lying)
    config = json.loads((lying / "config.json").read_text())
    (lying / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1, "layer_types": None}))
    with pytest.raises(InputError, match="says 1 layers"):
        tune(table(tmp_path / "rows.jsonl", 60), model=str(lying), **FAST)
