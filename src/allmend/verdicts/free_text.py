"""What a model writes when it is left to write: greedy answers to held-out prompts, many at once."""

from __future__ import annotations

from collections.abc import Sequence

from allmend.data import Row, Template
from allmend.engines.text import Sampling, TextRequest
from allmend.engines.torch.setup import build_engine
from allmend.models.loading import Loaded
from allmend.verdicts.measure import prompt_ids


def write_answers(loaded: Loaded, rows: Sequence[Row], template: Template, max_tokens: int) -> list[str]:
    """The model's greedy answer to each row's prompt, as it is in memory now (with or without its LoRA)."""
    engine = build_engine(loaded.model, loaded.tokenizer, context=loaded.context)
    sampling = Sampling(max_tokens=max_tokens, temperature=0.0, drop_space=template.is_plain)
    try:
        requests = [TextRequest(tuple(prompt_ids(loaded, row, template, room=max_tokens)), sampling) for row in rows]
        return [completion.text for completion in engine.complete(requests)]
    finally:
        engine.close()
