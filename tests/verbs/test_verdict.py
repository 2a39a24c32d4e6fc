"""`allmend verdict` on runs whose adapters were made by hand: other rows, norms, several runs, pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from allmend import runs
from allmend.adapters import LoraConfig, attach, detach, write
from allmend.cli import run_command
from allmend.data import PLAIN, Row
from allmend.digests import file_digest
from allmend.errors import InputError, UsageError
from allmend.models import resolve
from allmend.models.loading import load
from allmend.nouns.verdict import Comparison, Verdict
from allmend.verbs.recorded_rows import rows_digest
from allmend.verbs.ship import ship
from allmend.verbs.tune import TuneSettings
from allmend.verbs.tuning_rows import read_dataset
from allmend.verbs.verdict import VerdictSettings, compare, verdict
from allmend.verbs.verdict_work import joined_labels

QUICK: dict[str, Any] = {"free_text_rows": 2, "longest_answer": 4, "few_shot": 2, "forgetting": False}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, rows and a home."""
    folder = tmp_path_factory.mktemp("verdicts")
    tiny.model("llama", initializer_range=0.15).save_pretrained(folder / "tiny")
    tiny.tokenizer().save_pretrained(folder / "tiny")
    lines = [{"prompt": f"{label} {n} {n * 7919 % 1000}?", "completion": label}
             for n in range(200) for label in [("cat", "dog")[n % 2]]]  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(autouse=True)
def home(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLMEND_HOME", str(place / "home"))
    monkeypatch.chdir(place)


def tuned(
    place: Path, size: float, seed: int = 0, split: int = 0, held_out: Path | None = None, division: str | None = None
) -> str:
    """A run of tune as it would be recorded, with a random adapter; its id."""
    settings = TuneSettings(model=str(place / "tiny"), dtype="float32", seed=split)
    loaded = load(resolve(settings.model), "float32")
    lora = attach(loaded.model, LoraConfig(rank=2), seed=1)
    numbers = torch.Generator().manual_seed(seed)
    for layer in lora.layers.values():
        layer.lora_b.data.copy_(torch.randn(layer.lora_b.shape, generator=numbers) * size)
    data = place / "rows.jsonl"
    if held_out is not None:
        settings = settings.model_copy(update={"held_out": str(held_out)})
    with runs.record("tune", settings=settings, subject=str(data)) as run:
        run.input(data, name="data", sha256=file_digest(data))
        if held_out is not None:
            run.input(held_out, name="held_out", sha256=file_digest(held_out))
        if division is not None:
            run.choice("held_out_rows", division, "to know them again")
        write(run.folder / "adapter", lora, loaded.about, PLAIN.text, PLAIN.name)
        run.output("adapter", run.folder / "adapter")
    detach(loaded.model, lora)
    return run.id


def test_all_three_contestants_by_the_metrics_asked_for(place: Path) -> None:
    run = tuned(place, 0.5)
    found = verdict(run, metric=("exact_match", "chrf", "macro_f1"), **QUICK)
    assert [measure.name for measure in found.measures] == ["exact_match", "chrf", "macro_f1", "accuracy", "loss"]
    assert found.metric == "exact_match" and found.few_shot == 2
    recorded = runs.show("last")
    assert recorded.verb == "verdict" and recorded.subject == run
    assert Verdict.from_json(Path(recorded.output("verdict") or "").read_text()) == found


def test_rows_that_training_saw_are_left_out_of_other_rows(place: Path) -> None:
    run = tuned(place, 0.5)
    seen = (place / "rows.jsonl").read_text().splitlines()
    fresh = [json.dumps({"prompt": f"fresh cat {n} {n * 31}?", "completion": ("cat", "dog")[n % 2]}) for n in range(12)]
    (place / "other.jsonl").write_text("\n".join([*seen, *fresh]) + "\n")
    own = verdict(run, **QUICK).held_out_rows
    found = verdict(run, data=place / "other.jsonl", **QUICK)
    assert found.held_out_rows == own + 12
    assert any(f"{200 - own} rows (nearly) repeat rows of training" in note for note in found.notes)


def test_a_held_out_file_that_changed_is_no_ground_for_a_verdict(place: Path) -> None:
    fresh = [json.dumps({"prompt": f"kept cat {n} {n * 37}?", "completion": ("cat", "dog")[n % 2]}) for n in range(12)]
    held = place / "held.jsonl"
    held.write_text("\n".join(fresh) + "\n")
    run = tuned(place, 0.5, held_out=held)
    assert verdict(run, **QUICK).held_out_rows == 12
    held.write_text((place / "rows.jsonl").read_text())
    with pytest.raises(InputError, match="held-out rows has changed"):
        verdict(run, **QUICK)
    with pytest.raises(InputError, match="held-out rows has changed"):
        ship(run, to=place / "never")


def test_rows_that_were_divided_otherwise_are_no_ground_for_a_verdict(place: Path) -> None:
    settings = TuneSettings(model=str(place / "tiny"), dtype="float32")
    held_out = read_dataset(str(place / "rows.jsonl"), settings).held_out
    assert verdict(tuned(place, 0.5, division=rows_digest(held_out)), **QUICK).held_out_rows == len(held_out)
    run = tuned(place, 0.5, division=rows_digest(held_out[1:]))
    with pytest.raises(InputError, match="divides the data otherwise"):
        verdict(run, **QUICK)
    with pytest.raises(InputError, match="divides the data otherwise"):
        ship(run, to=place / "never")


def test_labels_that_other_rows_lack_can_still_be_answered(place: Path) -> None:
    run = tuned(place, 0.5)
    lines = [json.dumps({"prompt": f"only cat {n} {n * 31}?", "completion": "cat"}) for n in range(8)]
    (place / "cats.jsonl").write_text("\n".join(lines) + "\n")
    found = verdict(run, data=place / "cats.jsonl", **QUICK)
    assert found.metric == "accuracy" and not any("Only one label" in note for note in found.notes)


def test_labels_of_a_run_and_of_other_rows_are_joined() -> None:
    many = [Row("?", label) for label in ("a", "d") for _ in range(4)]
    assert joined_labels(["a", "b"], many) == ["a", "b", "d"]
    assert joined_labels(["a", "b"], [Row("?", "b")]) == ["a", "b"]
    assert joined_labels(["a", "b"], [Row("?", "b"), Row("?", "a text of its own")]) is None
    assert joined_labels(None, many) == ["a", "d"] and joined_labels(None, many[:1]) is None


def test_norms_are_remembered_with_the_adapter(place: Path) -> None:
    run = tuned(place, 0.5)
    (place / "n.toml").write_text("[[must]]\nname = 'speaks'\nprompt = 'Hello?'\npattern = '.'\n")
    first = verdict(run, norms=place / "n.toml", **QUICK)
    again = verdict(run, **QUICK)
    assert first.norms is not None and again.norms is not None
    assert again.norms.sha256 == first.norms.sha256 and again.norms.results == first.norms.results
    assert again.norms.file != first.norms.file


def test_several_runs_share_the_rows_and_the_untuned_answers(place: Path) -> None:
    one, other = tuned(place, 0.2, seed=1), tuned(place, 0.2, seed=2)
    found = compare((one, other), VerdictSettings.of(QUICK))
    assert set(found.values) == {"untuned", one, other} and len(found.pairs) == 3
    assert [each.run for each in found.verdicts] == [one, other]
    apart = verdict(other, **QUICK)
    assert found.verdicts[1].main == apart.main
    assert Comparison.from_json(found.to_json()) == found
    with pytest.raises(UsageError, match="twice"):
        compare((one, one), VerdictSettings.of(QUICK))
    with pytest.raises(UsageError, match="same rows"):
        compare((one, tuned(place, 0.2, split=5)), VerdictSettings.of(QUICK))


def test_the_command_writes_a_page_and_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tuned(place, 0.5)
    flags = ["--no-forgetting", "--free-text-rows", "0", "--few-shot", "0"]
    assert run_command(["verdict", run, *flags, "--html", str(place / "v.html"), "--json"]) == 0
    assert Verdict.from_json(capsys.readouterr().out).run == run
    assert run in (place / "v.html").read_text()
    other = tuned(place, 0.1, seed=3)
    assert run_command(["verdict", run, other, *flags]) == 0
    shown = capsys.readouterr().out
    assert other in shown and "than" in shown


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--metric", "acuracy"], "accuracy"),
        (["--metric", "judge"], "--judge"),
        (["--judge", "http://127.0.0.1:1/v1"], "--judge-model"),
        (["--norms", "none.toml"], "no such file"),
        (["--metric", "none.py:f"], "no file"),
        (["--metric", "pass@1"], "gave no number"),
    ],
)
def test_what_is_wrong_is_told(place: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: str) -> None:
    run = tuned(place, 0.1)
    more = ["--no-forgetting", "--free-text-rows", "0", "--few-shot", "0"]
    assert run_command(["verdict", run, *flags, *more]) in (2, 4, 5)
    assert words in " ".join(capsys.readouterr().err.split())
