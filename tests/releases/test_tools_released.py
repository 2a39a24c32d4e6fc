"""Descriptions of tools stand in what is judged and compared, as they stand in what is trained on."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest

import tiny
from allmend.data import PLAIN, Row, Template, encode
from allmend.releases.parity import probes
from allmend.releases.parity.torch_consumers import _prompt
from allmend.verdicts.measure import prompt_ids

TOOL = {"type": "function", "function": {"name": "weather"}}
OWN = Template("tools", "{% if tools %}{{ tools[0].function.name }}{% endif %}" + PLAIN.text)
TALK = ({"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "yes"})
ROW = Row("user: Rain?", "yes", TALK, tools=(TOOL,))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = copy.deepcopy(tiny.tokenizer())  # others have the same one
    made.chat_template = OWN.text
    return made


def test_a_row_is_judged_with_its_tools(tokenizer: Any) -> None:
    loaded: Any = SimpleNamespace(tokenizer=tokenizer, context=512)
    asked = prompt_ids(loaded, ROW, OWN, room=16)
    assert "weather" in tokenizer.decode(asked)
    assert encode(ROW, tokenizer, OWN).ids[: len(asked)] == asked


def test_consumers_are_asked_with_the_tools(tokenizer: Any) -> None:
    [probe] = probes.make([ROW], None, tokenizer, OWN, context=512).rows
    assert "weather" in probe.text and probe.tools == (TOOL,)
    text, ids = _prompt(tokenizer, probe)
    assert text == probe.text and ids == probe.prompt[-len(ids) :]
