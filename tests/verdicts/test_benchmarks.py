"""Benchmarks through lm-eval: our log-probabilities, its prompts and scoring, rows that lie here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import training
from allmend.nouns.benchmarks import Benchmarks
from allmend.verdicts import benchmarks
from allmend.verdicts.page import page

pytestmark = pytest.mark.filterwarnings(
    "ignore::Warning:(datasets|lm_eval|evaluate|multiprocess|dill|pyarrow|pandas).*"
)

ROWS: dict[str, list[dict[str, Any]]] = {
    "hellaswag": [
        {"activity_label": f"Doing {n}", "ctx": f"A person starts task {n}. they", "expected_index": n % 4,
         "endings": [f"ending {n} {k}" for k in range(4)]} for n in range(6)
    ],
    "truthfulqa_mc1": [
        {"question": f"Question {n}?", "choices": ["this", "that", "no"], "expected_index": n % 3} for n in range(5)
    ],
    "gsm8k": [{"prompt": f"What is {n} and 1?", "upstream_answer": f"Add.\n#### {n + 1}"} for n in range(6)],
}  # fmt: skip


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows made up here, in the form that the packages have."""

    def made(name: str, progress: Any = None) -> Path:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]))
        return path

    monkeypatch.setattr(benchmarks, "benchmark_file", made)


@torch.inference_mode()
def by_hand(loaded: Any, context: str, continuation: str) -> float:
    ids = loaded.tokenizer(context + continuation, add_special_tokens=False)["input_ids"]
    given = len(loaded.tokenizer(context, add_special_tokens=False)["input_ids"])
    logits = loaded.model(input_ids=torch.tensor([[257, *ids]]), use_cache=False).logits[0].log_softmax(-1)
    return float(sum(logits[place, ids[place]] for place in range(given, len(ids))))


def test_log_probabilities_are_those_of_full_logits() -> None:
    loaded = training.loaded()
    pairs = [("a context", " and more"), ("", "all of it"), ("spaces ", "move"), ("x" * 900, "too long a context")]
    found = benchmarks.loglikelihoods(loaded, pairs)
    wanted = [
        by_hand(loaded, "a context", " and more"),
        by_hand(loaded, "", "all of it"),
        by_hand(loaded, "spaces", " move"),
    ]
    assert [value for value, _ in found[:3]] == pytest.approx(wanted, rel=1e-4)
    assert found[3][0] < 0


def test_the_table_compares_every_model_with_the_first(local: None) -> None:
    loaded = training.loaded()
    results = {"one": {"hellaswag": benchmarks.run(loaded, "hellaswag"),
                       "truthfulqa_mc1": benchmarks.run(loaded, "truthfulqa_mc1", limit=4)}}  # fmt: skip
    results["two"] = results["one"]
    table = benchmarks.table(results, None, None)
    assert Benchmarks.from_json(table.to_json()) == table
    assert [(s.name, s.rows, s.few_shot) for s in table.scenarios] == [("hellaswag", 6, 0), ("truthfulqa_mc1", 4, 0)]
    accuracy = table.score("hellaswag", "acc", "one")
    assert accuracy is not None and accuracy.value == pytest.approx(sum(results["one"]["hellaswag"].rows["acc"]) / 6)
    # What lm-eval counts as right is what the log-probabilities say.
    right = 0
    for row in ROWS["hellaswag"]:
        scores = [by_hand(loaded, f"{row['activity_label']}: {row['ctx']}", f" {end}") for end in row["endings"]]
        right += scores.index(max(scores)) == row["expected_index"]
    assert accuracy.value == pytest.approx(right / 6)
    second = table.score("hellaswag", "acc", "two")
    assert second is not None and second.difference == 0 and second.adjusted_p_value == 1.0
    assert "hellaswag" in page(table) and "<script" not in page(table)


def test_written_answers_with_examples_in_the_prompt(local: None) -> None:
    loaded = training.loaded()
    found = benchmarks.run(loaded, "gsm8k", limit=2, few_shot=2)
    assert len(found.rows) == 2 and all(len(values) == 2 for values in found.rows.values())
    assert any("strict" in name for name in found.values)
