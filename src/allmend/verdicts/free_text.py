"""What a model writes when it is left to write: answers to held-out prompts, many at once."""

from __future__ import annotations

import time
from collections.abc import Sequence

from allmend.data import Row, Template, encode_prompt
from allmend.data.rows import Message
from allmend.engines.text import Completion, Sampling, TextRequest
from allmend.engines.torch.setup import build_engine
from allmend.errors import Unavailable
from allmend.models.loading import Loaded
from allmend.verdicts.measure import prompt_ids

_TRIED_PROMPT, _TRIED_TOKENS = 16, 24


def write_answers(
    loaded: Loaded,
    rows: Sequence[Row],
    template: Template,
    max_tokens: int,
    *,
    rooms: Sequence[int] | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    shots: Sequence[Row] = (),
) -> list[Completion]:
    """The model's answer to each row's prompt, as it is in memory now (with or without its LoRA).

    Args:
        rooms: tokens of the context that each prompt leaves free at least, where that is less than `max_tokens`; an
            answer that finds no more room ends there.
        seed: with the row's place it decides what is drawn at a temperature above 0.
    """
    free = rooms or [max_tokens] * len(rows)
    prompts = [prompt_ids(loaded, row, template, room=room, shots=shots) for row, room in zip(rows, free, strict=True)]
    return complete_ids(loaded, prompts, template, max_tokens, temperature=temperature, seed=seed)


def reply(loaded: Loaded, conversations: Sequence[Sequence[Message]], template: Template, max_tokens: int) -> list[str]:
    """The model's greedy reply to each conversation."""
    prompts = [encode_prompt(messages, loaded.tokenizer, template) for messages in conversations]
    return [completion.text for completion in complete_ids(loaded, prompts, template, max_tokens)]


def complete_ids(
    loaded: Loaded,
    prompts: Sequence[Sequence[int]],
    template: Template,
    max_tokens: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[Completion]:
    """What follows each prompt of token ids; raises `Unavailable` when the model fails."""
    return _complete(
        loaded,
        [
            TextRequest(
                tuple(prompt),
                Sampling(
                    max_tokens=max_tokens,
                    temperature=temperature,
                    seed=seed * 1_000_003 + place,
                    drop_space=template.is_plain,
                ),
            )
            for place, prompt in enumerate(prompts)
        ],
    )


def engine_answers(
    loaded: Loaded, prompts: Sequence[Sequence[int]], longest: Sequence[int], stops: Sequence[tuple[str, ...]]
) -> list[str]:
    """Greedy text after each prompt, each with its own length and stop strings."""
    completions = _complete(
        loaded,
        [
            TextRequest(tuple(prompt), Sampling(max_tokens=most, temperature=0.0, stop=stop))
            for prompt, most, stop in zip(prompts, longest, stops, strict=True)
        ],
    )
    return [completion.text for completion in completions]


def seconds_a_token(loaded: Loaded, prompts: Sequence[Sequence[int]]) -> float:
    """What each token takes when answers to these prompts are written together, without what is made ready before."""
    short = [tuple(prompt[-_TRIED_PROMPT:]) for prompt in prompts]
    engine = build_engine(loaded.model, loaded.tokenizer, context=loaded.context)
    try:
        took = []
        for tokens in (1, _TRIED_TOKENS):
            sampling = Sampling(max_tokens=tokens, temperature=0.0, ignore_end=True)
            begun = time.perf_counter()
            engine.complete([TextRequest(prompt, sampling) for prompt in short])
            took.append(time.perf_counter() - begun)
    finally:
        engine.close()
    return max(1e-6, took[1] / (_TRIED_TOKENS * len(short)))


def _complete(loaded: Loaded, requests: Sequence[TextRequest]) -> list[Completion]:
    if not requests:
        return []
    engine = build_engine(loaded.model, loaded.tokenizer, context=loaded.context)
    try:
        completions = engine.complete(requests)
    finally:
        engine.close()
    failed = next((completion.error for completion in completions if completion.finish == "error"), None)
    if failed is not None:
        raise Unavailable(f"the model could not write its answers: {failed}")
    return completions
