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
from allmend.verbs.tuning_question import More, writing_within
from allmend.verbs.tuning_rows import check_sides, read_dataset
from allmend.verbs.tuning_verdict import Judging
from allmend.verbs.watching import SILENT
from allmend.verdicts import forgetting
from allmend.verdicts.answers import answers_of
from allmend.verdicts.forgetting import General, Probe
from allmend.verdicts.free_text import seconds_a_token
from allmend.verdicts.lengths import limit_of
from allmend.verdicts.metrics import named
from allmend.verdicts.question import Answers, Question, Writing

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


LONG = Question(
    rows=[Row(f"Tell {n}?", f"{n} and so on " * 20, place=f"rows.csv:{n}") for n in range(60)],
    labels=None, template=PLAIN, adapter="a", data="rows.csv",
    metrics=(named("exact_match"), "loss"),
)  # fmt: skip


def test_long_free_text_is_held_to_a_share_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, told = training.loaded(), {}
    choose = lambda name, value, why: told.update({name: (value, why)})
    limit = limit_of(loaded, LONG)
    assert limit > 128
    monkeypatch.setattr("allmend.verbs.tuning_question.seconds_a_token", lambda *of: 0.01)
    wide = 60 * limit * 0.01 / 0.1 + 1
    assert writing_within(loaded, LONG, Clock(wide), choose) == (LONG, 0.01) and not told
    asked, _ = writing_within(loaded, LONG, Clock(wide / 2), choose)
    rows = len(asked.text_places)
    assert 24 <= rows <= 30 and rows * limit_of(loaded, asked) * 0.01 <= wide / 20
    assert "free_text_rows" in told and "longest_answer" not in told
    asked, _ = writing_within(loaded, LONG, Clock(1.0), choose)
    assert len(asked.text_places) == 24 and asked.longest_answer == 128 == told["longest_answer"][0]
    assert writing_within(loaded, QUESTION, Clock(1.0), choose) == (QUESTION, 0.0)


def test_the_speed_of_writing_is_that_of_answers_that_do_not_end() -> None:
    assert seconds_a_token(training.loaded(), [[1, 2, 3], [4] * 300]) > 0


def test_examples_are_asked_on_fewer_rows_where_their_answers_take_long() -> None:
    told: dict[str, tuple[object, str]] = {}
    choose = lambda name, value, why: told.update({name: (value, why)})
    loaded, asked = training.loaded(), replace(LONG, longest_answer=2, few_shot_rows=60)
    shots = [Row("Tell?", "a", place="t:1")]
    quick = More(loaded, Clock(100.0), 0.6, [10] * 60, choose, SILENT)
    assert quick.with_shots(asked, shots, 1, 10)[0].few_shot_rows == 60
    slow = More(loaded, Clock(100.0), 0.6, [10] * 60, choose, SILENT, writing=1.0)
    assert slow.with_shots(asked, shots, 1, 10) == (asked, None) and "about 54 s" in told["few_shot"][1]


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


def test_time_is_kept_for_a_tuned_model_that_writes_up_to_the_limit() -> None:
    judging = Judging.__new__(Judging)
    judging._took, judging.a_token = 2.0, 0.5
    judging.before = Answers([], writing=Writing(limit=200, answers=4, tokens=40))
    assert judging.seconds == pytest.approx(2.0 * 1.05 + 1.0 + 0.5 * (4 * 200 - 40))
    judging.a_token = 0.0
    assert judging.seconds == pytest.approx(2.0 * 1.05 + 1.0)
