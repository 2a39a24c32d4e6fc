"""What was tested: the base with its adapter beside it, in the passes that the verdict used."""

from __future__ import annotations

import time

from allmend.engines.text import Sampling, TextRequest
from allmend.engines.torch.setup import build_engine
from allmend.models.loading import Loaded
from allmend.models.scoring import Scored, label_logprobs, logprobs
from allmend.releases.parity.probes import Probes, Replies


def replies(loaded: Loaded, probes: Probes, *, write: bool = True) -> Replies:
    """Ask the model as it is in memory now, with its LoRA attached."""
    begun = time.monotonic()
    rows = probes.rows
    sums = logprobs(loaded.model, [Scored([*row.prompt, *row.answer], len(row.prompt)) for row in rows])
    labels = None
    if probes.labels:
        scores = label_logprobs(loaded.model, [row.prompt for row in rows], probes.label_ids)
        labels = [max(range(len(row)), key=row.__getitem__) for row in scores]
    answers: list[str] = []
    asked = [row for row in rows if row.messages][: probes.written] if write else []
    if asked:
        engine = build_engine(loaded.model, loaded.tokenizer, context=loaded.context)
        sampling = Sampling(max_tokens=probes.answer_tokens, temperature=0.0)
        try:
            made = engine.complete([TextRequest(tuple(row.prompt), sampling) for row in asked])
            answers = [completion.text for completion in made]
        finally:
            engine.close()
    return Replies(
        texts=[row.text for row in rows],
        prompts=[row.prompt for row in rows],
        losses=[-value / len(row.answer) for value, row in zip(sums, rows, strict=True)],
        labels=labels,
        answers=answers,
        consumer="allmend",
        seconds=time.monotonic() - begun,
    )
