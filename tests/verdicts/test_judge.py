"""Verdicts on tiny models: labels by score, words that the interval allows, nothing claimed of the same model twice."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

import tiny
import training
from allmend.adapters import LoraConfig, attach
from allmend.data import PLAIN, Row, encode, encode_prompt, encode_rows
from allmend.errors import InputError
from allmend.nouns.verdict import Measure, Verdict
from allmend.tuning.loop import Plan, train
from allmend.verdicts.judge import Question, answers_of, judge
from allmend.verdicts.measure import answer_labels, row_losses
from allmend.verdicts.words import words_of

LABELS = ["cat", "dog"]


def rows(count: int, seed: int = 0) -> list[Row]:
    """The label stands in the prompt, so that two layers can learn it."""
    numbers, made = random.Random(seed), []
    for place in range(count):
        label = numbers.choice(LABELS)
        made.append(Row(prompt=f"{label} {numbers.randrange(100)}?", completion=label, place=f"rows.csv:{place + 2}"))
    return made


def question(**more: Any) -> Question:
    values: dict[str, Any] = {
        "rows": rows(60, seed=5),
        "labels": LABELS,
        "template": PLAIN,
        "adapter": "a",
        "data": "rows.csv",
    }
    return Question(**(values | {"free_text_rows": 6} | more))


def shaken(loaded: Any, size: float) -> Any:
    lora = attach(loaded.model, LoraConfig(rank=2), seed=1)
    numbers = torch.Generator().manual_seed(0)
    for layer in lora.layers.values():
        layer.lora_b.data.copy_(torch.randn(layer.lora_b.shape, generator=numbers) * size)
    return lora


@torch.inference_mode()
def by_hand(loaded: Any, row: Row, label: str) -> float:
    """Sum of the label's log-probabilities after the prompt, by full logits; without an end mark."""
    prompt = encode_prompt(row.as_messages()[:-1], loaded.tokenizer, PLAIN)
    tokens = encode(Row(prompt=row.prompt, completion=label), loaded.tokenizer, PLAIN)
    learned = [token for token, learned in zip(tokens.ids, tokens.mask, strict=True) if learned][:-1]
    logits = loaded.model(input_ids=torch.tensor([prompt + learned]), use_cache=False).logits[0].log_softmax(-1)
    return float(sum(logits[len(prompt) + place - 1, token] for place, token in enumerate(learned)))


def test_the_best_label_is_that_of_full_logits() -> None:
    loaded, some = training.loaded(), rows(8)
    found = answer_labels(loaded, some, LABELS, PLAIN)
    for row, label, scores in zip(some, found.labels, found.scores, strict=True):
        wanted = [by_hand(loaded, row, label) for label in LABELS]
        assert scores == pytest.approx(wanted, rel=1e-4, abs=1e-3)
        assert label == LABELS[wanted.index(max(wanted))]


def test_labels_that_begin_each_other_are_scored_with_their_end() -> None:
    """Without the end of the text, `none` could never win over `no`: a longer text is never likelier."""
    loaded, labels = training.loaded(), ["no", "none"]
    (row,) = [Row(prompt="Any left?", completion="no", place="x:1")]
    (scores,) = answer_labels(loaded, [row], labels, PLAIN).scores
    for label, score in zip(labels, scores, strict=True):
        (tokens,) = encode_rows([Row(prompt=row.prompt, completion=label)], loaded.tokenizer, PLAIN)
        assert tokens.ids[-1] == loaded.tokenizer.eos_token_id and tokens.mask[-1]
        with torch.inference_mode():
            logits = loaded.model(input_ids=torch.tensor([tokens.ids]), use_cache=False).logits[0].log_softmax(-1)
        wanted = sum(
            float(logits[place - 1, tokens.ids[place]]) for place in range(1, len(tokens)) if tokens.mask[place]
        )
        assert score == pytest.approx(wanted, rel=1e-4)


def test_row_losses_are_per_learned_token() -> None:
    loaded, some = training.loaded(), rows(5)
    found = row_losses(loaded, some, PLAIN)
    for row, value in zip(some, found, strict=True):
        (tokens,) = encode_rows([row], loaded.tokenizer, PLAIN)
        with torch.inference_mode():
            logits = loaded.model(input_ids=torch.tensor([tokens.ids]), use_cache=False).logits[0].log_softmax(-1)
        places = [place for place, learned in enumerate(tokens.mask) if learned]
        wanted = -sum(float(logits[place - 1, tokens.ids[place]]) for place in places) / len(places)
        assert value == pytest.approx(wanted, rel=1e-4)


def test_rows_without_a_place_keep_losses_of_their_own() -> None:
    loaded = training.loaded()
    placed = rows(4)
    bare = [Row(prompt=row.prompt, completion=row.completion) for row in placed]
    assert row_losses(loaded, bare, PLAIN) == pytest.approx(row_losses(loaded, placed, PLAIN), rel=1e-5)


@pytest.mark.parametrize("labels", [LABELS, None])
def test_the_same_model_twice_is_never_better(labels: list[str] | None) -> None:
    loaded = training.loaded()
    lora = attach(loaded.model, LoraConfig(rank=2))
    verdict = judge(loaded, lora, question(labels=labels))
    assert verdict.words == "not shown to be better"
    assert (verdict.gained, verdict.lost) == (0, 0)
    assert all(measure.difference == 0 for measure in verdict.measures)
    for measure in verdict.measures:
        assert measure.low is None or measure.low <= 0 <= (measure.high or 0)


def test_a_model_that_learned_is_better_and_the_other_way_round_worse(tmp_path: Any) -> None:
    loaded = training.loaded(model=tiny.model("llama", initializer_range=0.15))
    lora = attach(loaded.model, LoraConfig(rank=8, alpha=32))
    tokens = list(encode_rows(rows(200), loaded.tokenizer, PLAIN))
    train(loaded, lora, tokens, tokens[:20], Plan(steps=120, rate=1e-2, batch_rows=16, evaluations=1), tmp_path)
    asked = question()
    verdict = judge(loaded, lora, asked)
    assert verdict.words == "better" and verdict.main.name == "accuracy", verdict.main
    assert verdict.main.tuned > 0.9 and verdict.gained > verdict.lost
    assert verdict.p_value is not None and verdict.p_value < 0.05 and verdict.rows_needed is None
    assert len(verdict.gained_examples) <= 5 and verdict.gained_examples[0].expected == verdict.gained_examples[0].tuned
    assert {measure.name for measure in verdict.measures} == {"accuracy", "macro_f1", "loss", "exact_match"}
    text = verdict.to_json()
    assert Verdict.from_json(text) == verdict and Verdict.from_json(text).to_json() == text
    # What the tuned model gave, put in the place of the untuned one's: the words turn round.
    tuned = answers_of(loaded, asked)
    for layer in lora.layers.values():
        layer.lora_b.data.zero_()
    assert judge(loaded, lora, asked, base_answers=tuned).words == "worse"


def test_what_was_measured_before_is_not_measured_again() -> None:
    loaded = training.loaded()
    asked = question()
    before = answers_of(loaded, asked)
    lora = shaken(loaded, 0.3)
    said: list[str] = []
    given = judge(loaded, lora, asked, said.append, base_answers=before)
    assert not any(what.startswith("untuned") for what in said)
    assert given == judge(loaded, lora, asked)


def test_prompts_longer_than_the_context_are_judged_too() -> None:
    """Their start is left out, as it is in training."""
    loaded = training.loaded()
    loaded.context = 64
    long = [Row(prompt="word " * 40 + f"{label} {n}", completion=label, place=f"x:{n}{label}")
            for n in range(4) for label in LABELS]  # fmt: skip
    verdict = judge(loaded, shaken(loaded, 0.2), question(rows=long, free_text_rows=3))
    assert verdict.held_out_rows == 8
    assert any("longer" in note for note in verdict.notes)


def test_no_rows_is_told() -> None:
    loaded = training.loaded()
    with pytest.raises(InputError, match="no held-out rows"):
        judge(loaded, attach(loaded.model, LoraConfig(rank=2)), question(rows=[]))


def test_one_label_rests_on_the_loss_and_says_so() -> None:
    loaded = training.loaded()
    verdict = judge(loaded, shaken(loaded, 0.2), question(labels=["cat"]))
    assert verdict.metric == "loss" and any("one label" in note.lower() for note in verdict.notes)


def test_text_rows_have_a_loss_and_no_free_text() -> None:
    loaded = training.loaded()
    texts = [Row(text=f"some text {number}", place=f"t:{number}") for number in range(12)]
    verdict = judge(loaded, shaken(loaded, 0.2), question(rows=texts, labels=None))
    assert [measure.name for measure in verdict.measures] == ["loss"]


def test_conversations_are_judged_on_every_answer() -> None:
    loaded = training.loaded()
    talk = [
        Row(messages=({"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "cat"},
                      {"role": "user", "content": "and"}, {"role": "assistant", "content": "dog"}), place=f"m:{n}")
        for n in range(10)
    ]  # fmt: skip
    verdict = judge(loaded, shaken(loaded, 0.2), question(rows=talk, labels=None, free_text_rows=2))
    assert verdict.metric == "loss" and verdict.held_out_rows == 10


@pytest.mark.parametrize(
    ("low", "high", "higher", "words"),
    [
        (0.1, 0.2, True, "better"),
        (-0.2, -0.1, True, "worse"),
        (-0.1, 0.1, True, "not shown to be better"),
        (0.0, 0.1, True, "not shown to be better"),
        (0.1, 0.2, False, "worse"),
        (-0.2, -0.1, False, "better"),
    ],
)
def test_words_are_what_the_interval_allows(low: float, high: float, higher: bool, words: str) -> None:
    measure = Measure(name="m", base=0, tuned=0, difference=0, low=low, high=high, rows=9, higher_is_better=higher)
    assert words_of(measure) == words
