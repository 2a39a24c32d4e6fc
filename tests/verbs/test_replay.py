"""A tuning run replays to the same bytes, and says so when it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from allmend import runs
from allmend.errors import InputError, UsageError
from allmend.verbs.replay import replay, why_different
from allmend.verbs.tune import tune


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    network = tiny.model("llama", initializer_range=0.05)
    network.save_pretrained(tmp_path / "base")
    tiny.tokenizer().save_pretrained(tmp_path / "base")
    words = ["red", "green", "blue", "white", "black", "grey"]
    with (tmp_path / "rows.jsonl").open("w") as out:
        for place in range(90):
            word = words[place % 6]
            prompt = f"{place}: is {word} {words[place // 6 % 6]} a colour?"
            out.write(json.dumps({"prompt": prompt, "completion": "yes" if place % 6 < 3 else "no"}) + "\n")
    return tmp_path


def test_a_finished_run_replays_bit_for_bit(folder: Path) -> None:
    data = folder / "rows.jsonl"
    first = tune(data, model=str(folder / "base"), budget=60, epochs=1, rank=2, batch=8, dtype="float32", trials=1)
    assert first.choice("layers") == "lean"
    found = replay(first.id)
    assert found.equal, found
    assert found.different == []
    again = runs.show(found.replay)
    assert again.choice("steps") == first.choice("steps")
    assert again.choice("predicted_minutes") is None  # nothing was measured anew

    with data.open("a") as out:
        out.write(json.dumps({"prompt": "one more", "completion": "no"}) + "\n")
    with pytest.raises(InputError, match="changed"):
        replay(first.id)


def test_a_model_that_changed_is_said_before_training(folder: Path) -> None:
    data = folder / "rows.jsonl"
    first = tune(data, model=str(folder / "base"), budget=60, epochs=0.1, rank=2, batch=8, dtype="float32", trials=1)
    tiny.model("llama", seed=1, initializer_range=0.05).save_pretrained(folder / "base")
    with pytest.raises(InputError, match="the model has changed since the run"):
        replay(first.id)


def test_a_held_out_file_that_changed_is_said_before_training(folder: Path) -> None:
    held = folder / "held.jsonl"
    held.write_text("".join(json.dumps({"prompt": f"h{n}: so?", "completion": "yes"}) + "\n" for n in range(6)))
    way: dict[str, Any] = {"budget": 60, "epochs": 0.1, "rank": 2, "batch": 8, "dtype": "float32", "trials": 1}
    first = tune(folder / "rows.jsonl", model=str(folder / "base"), held_out=str(held), **way)
    held.write_text((folder / "rows.jsonl").read_text())
    with pytest.raises(InputError, match="held-out rows has changed"):
        replay(first.id)


def test_why_bits_differ_is_read_from_the_records(folder: Path) -> None:
    with runs.record("tune", subject="x") as one:
        one.choice("threads", 2, "for the test")
    with runs.record("tune", subject="x") as two:
        two.choice("threads", 1, "for the test")
    first, second = runs.show(one.id), runs.show(two.id)
    assert "threads was 2 and is 1" in why_different(first, second)
    other = second.model_copy(update={"environment": {**second.environment, "cpu": "another", "machine": "elsewhere"}})
    assert "and is 'another'" in why_different(first, other) and "elsewhere" not in why_different(first, other)
    assert "should agree" in why_different(first, first)


@pytest.mark.parametrize("way", [{"full": True}, {"base_bits": 4, "dora": True}, {"dropout": 0.2}], ids=str)
def test_other_ways_to_learn_replay_too(folder: Path, way: dict[str, Any]) -> None:
    settings = {"budget": 60, "epochs": 0.5, "dtype": "float32", **({} if "full" in way else {"rank": 2}), **way}
    first = tune(folder / "rows.jsonl", model=str(folder / "base"), **settings)
    found = replay(first.id)
    assert found.equal, found
    name = "model" if "full" in way else "adapter"
    weights = [next(Path(run.output(name) or "").glob("*.safetensors")) for run in (first, runs.show(found.replay))]
    assert weights[0] != weights[1] and weights[0].read_bytes() == weights[1].read_bytes()


def test_only_finished_runs_of_tune_replay(folder: Path) -> None:
    with runs.record("data check", subject="x") as run:
        pass
    with pytest.raises(UsageError, match="data check"):
        replay(run.id)
