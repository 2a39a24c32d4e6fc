"""The real model in the precisions it is served in, teacher-forced against float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from allmend.engines.torch.native.build import library
from allmend.engines.torch.native.parts import parts_of
from allmend.engines.torch.native.runner import NativeRunner
from allmend.engines.torch.pages import Pages
from allmend.engines.torch.runner import Memory, PlainRunner, Segment

pytestmark = pytest.mark.model
TEXT = """The film begins slowly, with a long walk through an empty town, and for half an hour nothing happens that
could be told. Then a door opens. What follows is one of the finest scenes of the year: two people who have not seen
each other in a decade try to agree on what they once agreed on, and fail, and laugh. I left the cinema happier than
I had come, although I could not say why."""


def test_eight_bits_and_bf16_keep_the_best_token_and_the_loss(model: Any) -> None:
    tokens = model.tokenizer(TEXT)["input_ids"]
    wanted = PlainRunner(model.model).run([Segment(Memory(), tokens, 0, len(tokens))])[0]
    best = wanted.topk(2).values
    sure = best[:, 0] - best[:, 1] > 0.5
    assert int(sure.sum()) > 40
    compiled, why = library()
    assert compiled is not None, why
    parts, answers = parts_of(model.model), torch.tensor(tokens[1:])
    reference = float(torch.nn.functional.cross_entropy(wanted[:-1], answers))
    for kind, allowed in (("bfloat16", 0.02), ("int8", 0.06)):
        runner = NativeRunner(model.model, parts, Pages(12), compiled, kind=kind, context=256)
        memory = Memory()
        assert runner.reserve(memory, len(tokens))
        found = runner.run([Segment(memory, tokens, 0, len(tokens))])[0]
        assert torch.equal(found.argmax(-1)[sure], wanted.argmax(-1)[sure]), kind
        assert float(torch.nn.functional.cross_entropy(found[:-1], answers)) == pytest.approx(reference, abs=allowed)
