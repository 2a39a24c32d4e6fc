"""Answers that must follow a grammar do, whatever the model would rather say."""

from __future__ import annotations

import json
import re

import pytest
import torch

import tiny
from allmend.engines import constraint
from allmend.engines.text import Sampling, TextRequest
from allmend.engines.torch.setup import build_engine
from allmend.errors import InputError

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 4}, "mood": {"enum": ["good", "bad"]}},
    "required": ["name", "mood"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_answers_follow_their_grammar_beside_others_that_have_none(temperature: float) -> None:
    engine = build_engine(tiny.model("llama"), tiny.tokenizer(), context=200)
    free = Sampling(max_tokens=40, temperature=0, ignore_end=True)
    schema = Sampling(temperature=temperature, seed=1, max_tokens=120, grammar=constraint.of_schema(SCHEMA))
    regex = Sampling(temperature=temperature, seed=1, grammar=constraint.of_regex("[a-c]{3}-[0-9]{2}"))
    lark = Sampling(temperature=temperature, seed=1, grammar=constraint.of_lark('start: "yes" | "no"'))
    try:
        (alone,) = engine.complete([TextRequest((1, 2, 3), free)])
        answers = engine.complete([TextRequest((1, 2, 3), each) for each in (free, schema, regex, lark)])
    finally:
        engine.close()
    assert answers[0].tokens == alone.tokens
    assert all(answer.finish == "stop" for answer in answers[1:])
    said = json.loads(answers[1].text)
    assert set(said) == {"name", "mood"} and said["mood"] in ("good", "bad")
    assert re.fullmatch("[a-c]{3}-[0-9]{2}", answers[2].text)
    assert answers[3].text in ("yes", "no")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 3}}, "required": ["a"]},
        {"type": "nonsense"},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        ["not a schema"],
    ],
)
def test_schemas_that_nothing_meets_are_refused(schema: object) -> None:
    with pytest.raises(InputError):
        constraint.of_schema(schema)
    with pytest.raises(InputError):
        constraint.of_lark("start: missing")


def test_texts_that_are_tokens_of_their_own_are_written() -> None:
    """Marks such as `<tool_call>` are added tokens, and special ones stand in a vocabulary too."""
    tokenizer = tiny.tokenizer()
    grammars = (
        constraint.of_lark('start: open "\\n" /[0-9]/ close\nopen: "<word0>"\nclose: "<word3>"\n'),
        constraint.of_schema({"const": "a<word2>b"}),
        constraint.of_regex("<end>!"),
    )
    engine = build_engine(tiny.model("llama"), tokenizer, context=200)
    try:
        requests = [TextRequest((1, 2, 3), Sampling(temperature=0, grammar=each)) for each in grammars]
        marked, quoted, special = engine.complete(requests)
    finally:
        engine.close()
    opened, closed = tokenizer.convert_tokens_to_ids(["<word0>", "<word3>"])
    written = [token.id for token in marked.tokens]
    assert written[0] == opened and closed in written and re.fullmatch("<word0>\n[0-9]<word3>", marked.text)
    assert quoted.text == '"a<word2>b"' and special.text == "<end>!"


def test_where_a_grammar_is_met_every_end_of_the_model_may_come() -> None:
    tokenizer = tiny.tokenizer()
    turn = 300
    assert turn != tokenizer.eos_token_id
    made = constraint.Constraints(tokenizer, tiny.VOCABULARY, {tokenizer.eos_token_id, turn})
    answer = made(constraint.of_regex("a+"))
    (letter,) = tokenizer("a")["input_ids"]

    def may_come() -> set[int]:
        logits = torch.zeros(tiny.VOCABULARY)
        answer.allow(logits)
        return set(torch.isfinite(logits).nonzero().flatten().tolist())

    assert turn not in may_come()
    answer.took(letter)
    assert {letter, turn, tokenizer.eos_token_id} <= may_come()
    answer.took(turn)
    assert answer.ended and answer.failure is None


def test_an_answer_under_a_grammar_ends_with_the_models_own_turn_end() -> None:
    model, end = tiny.model("llama"), 300
    model.generation_config.eos_token_id = [256, end]
    engine = build_engine(model, tiny.tokenizer(), context=64)
    sampling = Sampling(temperature=0, max_tokens=8, grammar=constraint.of_regex("a+"), logit_bias={end: 1000.0})
    try:
        (answer,) = engine.complete([TextRequest((1, 2, 3), sampling)])
    finally:
        engine.close()
    assert (answer.text, answer.finish) == ("a", "stop")
