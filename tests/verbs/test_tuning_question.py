"""What the verdict that closes a tune asks beyond its rows, on a two-layer model."""

from __future__ import annotations

import csv
import random
from dataclasses import replace
from pathlib import Path

import pytest

import tiny
import training
from allmend.data import PLAIN, Row
from allmend.errors import InputError, UsageError
from allmend.nouns.verdict import Verdict
from allmend.verbs.clock import Clock
from allmend.verbs.tune import TuneSettings, tune
from allmend.verbs.tuning_checks import read_norms
from allmend.verbs.tuning_question import More
from allmend.verbs.tuning_work import check_sides, read_dataset
from allmend.verbs.watching import SILENT
from allmend.verdicts import forgetting
from allmend.verdicts.answers import answers_of
from allmend.verdicts.forgetting import General, Probe
from allmend.verdicts.question import Question

LABELS = ["cat", "dog"]
ROWS = [Row(f"{LABELS[n % 2]} {n}?", LABELS[n % 2], place=f"rows.csv:{n + 2}") for n in range(120)]
QUESTION = Question(rows=ROWS[:80], labels=LABELS, template=PLAIN, adapter="a", data="rows.csv", free_text_rows=4)


def test_a_side_without_rows_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "the same again?", "completion": "yes"}\n' * 40)
    with pytest.raises(InputError, match="no rows are left to judge by"):
        check_sides(read_dataset(str(path), TuneSettings()))
    path.write_text("".join(f'{{"prompt": "number {n}", "completion": "yes"}}\n' for n in range(40)))
    check_sides(read_dataset(str(path), TuneSettings()))


def more(budget: float, took: float, told: dict[str, tuple[object, str]]) -> More:
    """With rows of 10 tokens that took so many seconds in all."""
    choose = lambda name, value, why: told.update({name: (value, why)})
    return More(training.loaded(), Clock(budget), took, [10] * 80, choose, SILENT)


def test_examples_are_asked_on_as_many_rows_as_there_is_time_for() -> None:
    told: dict[str, tuple[object, str]] = {}
    # 0.125 s a row as it is, and with two examples as long three times as much.
    asked, found = more(10.0, 10.0, told).with_shots(QUESTION, ROWS[80:], 2, 10)
    assert found is None and asked == QUESTION and told["few_shot"][0] == 0
    assert "about 22 s" in told["few_shot"][1] and "allmend verdict" in told["few_shot"][1]
    asked, found = more(500.0, 10.0, told).with_shots(QUESTION, ROWS[80:], 2, 10)
    assert found is not None and len(asked.shots) == 2 and asked.few_shot_rows == 58 == len(found.label_at)
    assert told["few_shot"][0] == 2 and "58 rows" in told["few_shot"][1]
    assert more(500.0, 10.0, told).with_shots(QUESTION, ROWS[80:], 0, 10) == (QUESTION, None)


def test_forgetting_is_measured_where_there_is_time_to_ask_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, tuple[object, str]] = {}
    before = answers_of(training.loaded(), replace(QUESTION, rows=ROWS[:8]))
    asked, took = more(30.0, 1.0, told).forgetting(QUESTION, before)
    assert asked.general is None and took == 0 and told["forgetting"][0] is False and not before.probe_texts
    general = General(("A general text.", "Another one."), (Probe("2 + 2?", ("4",)),), ("a source",))
    monkeypatch.setattr(forgetting, "general", lambda progress: general)
    asked, took = more(900.0, 1.0, told).forgetting(QUESTION, before)
    assert asked.general is general and took > 0 and told["forgetting"][0] is True
    assert len(before.general_losses) == 2 and len(before.probe_texts) == 1


def test_norms_are_checked_by_tune_and_stay_with_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    tiny.model("llama", initializer_range=0.15).save_pretrained(tmp_path / "tiny")
    tiny.tokenizer().save_pretrained(tmp_path / "tiny")
    numbers = random.Random(0)
    with (tmp_path / "rows.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("prompt", "completion"))
        for _ in range(80):
            label = numbers.choice(LABELS)
            writer.writerow((f"{''.join(numbers.choices('abcdefgh', k=9))} {label}?", label))
    norms = tmp_path / "norms.toml"
    norms.write_text("[[must_not]]\nname = 'quiet'\nprompt = 'Hello?'\npattern = 'zzzz'\n")
    run = tune(tmp_path / "rows.csv", model=str(tmp_path / "tiny"), budget="20s", trials=1, epochs=1, norms=norms)
    found = Verdict.from_json(Path(run.output("verdict") or "").read_text())
    assert found.norms is not None and found.norms.results[0].name == "quiet"
    assert (Path(run.output("adapter") or "") / "norms.toml").read_text() == norms.read_text()
    assert not any("norms" in note for note in found.notes)


def test_norms_that_need_a_judge_are_refused_before_anything_runs(tmp_path: Path) -> None:
    norms = tmp_path / "norms.toml"
    norms.write_text("[[must_not]]\nname = 'rude'\nprompt = 'Hello?'\njudge = 'It is rude.'\n")
    with pytest.raises(UsageError, match="needs a judge") as caught:
        read_norms(norms)
    assert "--judge" in (caught.value.hint or "")
