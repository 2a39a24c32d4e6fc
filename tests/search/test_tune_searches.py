"""`allmend tune` with its search, as a person runs it, on a two-layer model."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

import tiny
from allmend import runs
from allmend.adapters import read
from allmend.cli import run_command
from allmend.cli.show import notes, out
from allmend.nouns.run import Run
from allmend.nouns.search import Search
from allmend.nouns.verdict import Verdict
from allmend.search.state import read_record
from allmend.verbs.replay import replay
from allmend.verbs.tune import tune
from allmend.verbs.verdict import verdict


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and rows whose label stands in the prompt."""
    folder = tmp_path_factory.mktemp("search")
    tiny.model("llama", initializer_range=0.15).save_pretrained(folder / "tiny")
    tiny.tokenizer().save_pretrained(folder / "tiny")
    numbers = random.Random(0)
    with (folder / "rows.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("prompt", "completion"))
        for _ in range(480):
            label = numbers.choice(["cat", "dog"])
            words = " ".join("".join(numbers.choices("abcdefgh", k=4)) for _ in range(3))
            writer.writerow((f"{words} {label}?", label))
    return folder


def words(place: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "allmend", "tune", str(place / "rows.csv"), "--model", str(place / "tiny"),
            "--dtype", "float32", *more]  # fmt: skip


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "ALLMEND_HOME": str(home)}


def command(home: Path, line: list[str]) -> Any:
    return subprocess.run(line, capture_output=True, text=True, timeout=400, env=environment(home), check=False)


@pytest.fixture(scope="module")
def finished(place: Path) -> tuple[Path, Run, str]:
    line = words(place, "--budget", "10m", "--trials", "9", "--epochs", "4", "--more-data", "--no-forgetting", "--json")
    answer = command(place / "home", line)
    assert answer.returncode == 0, answer.stderr
    return place / "home", Run.from_json(answer.stdout), answer.stderr


def test_the_plan_comes_first_and_all_of_it_is_recorded(finished: tuple[Path, Run, str]) -> None:
    _, run, said = finished
    assert said.index("rung 1: 9 trials") < said.index("selection rows\n") and "Traceback" not in said
    assert run.choice("trials") == 9 and all(choice.reason for choice in run.choices)
    found = read_record(Path(run.folder))
    winner = found.trial(found.winner if found.winner is not None else -1)
    assert run.choice("learning_rate") == winner.point.learning_rate and run.choice("rank") == winner.point.rank
    assert len(found.trials) == 9 and {trial.state for trial in found.trials} == {"stopped", "finished"}
    assert all(trial.why and trial.losses for trial in found.trials)
    assert read(run.output("adapter") or "").config.rank == winner.point.rank
    judged = Verdict.from_json(Path(run.output("verdict") or "").read_text())
    assert judged.words == "better" and judged.run == run.id
    assert found.train_rows + run.choice("splits")["held_out"] + run.choice("splits")["select"] == 480
    assert [point.rows for point in found.learning_curve] == [96, 192, 384] and "rows" in found.more_data


def test_stock_optuna_reads_its_study(finished: tuple[Path, Run, str]) -> None:
    _, run, _ = finished
    study = optuna.load_study(study_name="allmend", storage=f"sqlite:///{run.output('study')}")
    found = read_record(Path(run.folder))
    assert len(study.trials) == 9 and study.best_trial.number == found.winner
    assert study.best_value == pytest.approx(found.trial(study.best_trial.number).best)
    study._storage.remove_session()


def test_it_replays_as_its_winner_to_the_same_bytes(
    finished: tuple[Path, Run, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, run, _ = finished
    monkeypatch.setenv("ALLMEND_HOME", str(home))
    found = replay(run.id)
    assert found.equal, found


def inside(capsys: pytest.CaptureFixture[str], *line: str) -> tuple[int, str, str]:
    """The command in this process, since most of the time of each would go into importing torch."""
    out.cache_clear()
    notes.cache_clear()
    code = run_command(list(line))
    out.cache_clear()
    notes.cache_clear()
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_compare_shows_trials_and_writes_a_page(
    finished: tuple[Path, Run, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, run, _ = finished
    monkeypatch.setenv("ALLMEND_HOME", str(home))
    page = tmp_path / "trials.html"
    code, shown, _ = inside(capsys, "runs", "compare", run.id, "--html", str(page))
    assert code == 0 and "9 settings tried" in " ".join(shown.split())
    text = page.read_text()
    assert run.id in text and "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
    _, shown, _ = inside(capsys, "runs", "compare", run.id, "--json")
    assert Search.from_json(shown) == read_record(Path(run.folder))


def begun(process: subprocess.Popen[str], home: Path, ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not ready():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


def stopped(place: Path, home: Path, line: list[str], number: signal.Signals) -> tuple[int, str]:
    """Run until some trial was measured, then send a signal."""
    process = subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(home)
    )
    try:
        begun(process, home, lambda: bool(list(home.glob("runs/*/adapter/adapter_model.safetensors"))))
        process.send_signal(number)
        _, said = process.communicate(timeout=200)
    finally:
        process.kill()
        process.wait(30)
    return process.returncode, said


def test_ctrl_c_keeps_the_best_with_its_verdict_and_the_same_command_goes_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    line = words(place, "--budget", "10m", "--trials", "3", "--epochs", "20", "--no-forgetting")
    code, said = stopped(place, home, line, signal.SIGINT)
    assert code == 130 and "Stopped. Judging the best so far" in said and "Traceback" not in said
    monkeypatch.setenv("ALLMEND_HOME", str(home))
    run = runs.show("last")
    assert run.state == "interrupted" and read(run.output("adapter") or "").modules
    assert Verdict.from_json(Path(run.output("verdict") or "").read_text()).run == run.id
    before = read_record(Path(run.folder))
    assert any(trial.state not in {"stopped", "finished"} for trial in before.trials)
    again = tune(
        place / "rows.csv", model=str(place / "tiny"), dtype="float32", budget="10m", trials=3, epochs=20,
        forgetting=False,
    )  # fmt: skip
    assert again.choice("continues") == run.id
    after = read_record(Path(again.folder))
    assert [trial.point for trial in after.trials] == [trial.point for trial in before.trials]
    for old, new in zip(before.trials, after.trials, strict=True):
        assert new.curve[: len(old.curve)] == old.curve, "what was measured is not measured again"


def test_killed_outright_the_best_so_far_is_there_and_can_be_judged(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    line = words(place, "--budget", "10m", "--trials", "3", "--epochs", "20", "--no-forgetting")
    code, _ = stopped(place, home, line, signal.SIGKILL)
    assert code == -signal.SIGKILL
    monkeypatch.setenv("ALLMEND_HOME", str(home))
    run = runs.show("last")
    assert run.state == "interrupted"
    assert verdict(run.id, free_text_rows=0).run == run.id
    again = tune(
        place / "rows.csv", model=str(place / "tiny"), dtype="float32", budget="10m", trials=3, epochs=20,
        forgetting=False,
    )  # fmt: skip
    assert again.choice("continues") == run.id and again.state == "done"


def test_two_processes_search_together(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    run = tune(
        place / "rows.csv", model=str(place / "tiny"), dtype="float32", budget="10m", trials=3, epochs=2, workers=2,
        forgetting=False,
    )  # fmt: skip
    found = read_record(Path(run.folder))
    assert len(found.trials) == 3 and found.winner is not None and run.output("verdict")
    logs = [path.read_text() for path in Path(run.folder).glob("worker-*.log")]
    assert len(logs) == 2 and not any("Traceback" in text for text in logs), logs


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--trials", "9", "--budget", "1ms"), 7, "--budget"),
        (("--trials", "3", "--learning-rate", "1e12", "--budget", "10m"), 10, "all 3 trials diverged"),
        (("--workers", "2", "--trials", "1"), 2, "--workers"),
    ],
    ids=["budget", "diverged", "workers"],
)
def test_what_is_wrong_is_told_with_its_code(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...], code: int, said: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    found, _, told = inside(capsys, *words(place, *more)[3:])
    assert found == code, told
    assert said in told and "Traceback" not in told and "inside allmend" not in told
