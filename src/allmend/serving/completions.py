"""`/v1/completions`: text or tokens go on, without a chat template."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from allmend.engines.text import Completion, TextRequest, TokenInfo, Usage
from allmend.engines.token_bytes import TokenBytes
from allmend.serving import answering, streams
from allmend.serving.faults import Fault, unsupported
from allmend.serving.registry import Registry
from allmend.serving.requests import CompletionRequest
from allmend.serving.responses import CompletionChoice, CompletionLogprobs, FinishReason, TextCompletion
from allmend.serving.running import Running, count_usage, whole
from allmend.serving.targets import Target

_DEFAULT_MAX_TOKENS = 16
"""OpenAI's own for this route."""


@dataclass(frozen=True)
class _Prepared:
    """A request that has been understood: choices of the first prompt first, then of the second."""

    body: CompletionRequest
    target: Target
    echoes: list[str]
    requests: list[TextRequest]
    prompts: int


async def answer(request: Request, body: CompletionRequest, registry: Registry) -> TextCompletion | StreamingResponse:
    """Continue one or many prompts, whole or as a stream."""
    prepared, running = await answering.begin(request, body, registry, _prepare)
    if body.stream:
        return streams.stream(_chunks(prepared, running), running)
    return _completion(prepared, await whole(request, running, len(prepared.requests)), running)


def _prepare(body: CompletionRequest, registry: Registry) -> _Prepared:
    if body.suffix:
        raise unsupported("suffix", "suffix")
    count = body.n or 1
    if body.best_of not in (None, count):
        raise unsupported("best_of other than n", "best_of")
    target = registry.find(body.model, body.lora)
    wanted = _DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    prompts = _prompts(body, target.base.tokenizer)
    if len(prompts) * count > 512:
        raise Fault(400, "At most 512 answers in one request.", param="n", code="too_many")
    echoes, requests = [], []
    for text, tokens in prompts:
        answering.check_room(len(tokens), target, "prompt", wanted=wanted)
        for index in range(count):
            sampling = answering.sampling_of(
                body,
                max_tokens=wanted,
                logprobs=body.logprobs,
                index=index,
                prompt_logprobs=0 if body.echo and body.logprobs is not None else None,
            )
            requests.append(TextRequest(tokens, sampling, target.uses))
            echoes.append(text if body.echo else "")
    return _Prepared(body, target, echoes, requests, len(prompts))


def _prompts(body: CompletionRequest, tokenizer: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Every prompt as (its text where it is echoed, its tokens)."""
    given: Any = body.prompt
    if isinstance(given, str) or isinstance(given[0], int):
        given = [given]
    found = []
    for prompt in given:
        if isinstance(prompt, str):
            found.append((prompt, tuple(tokenizer(prompt, verbose=False)["input_ids"])))
        else:
            text = _decoded(prompt, tokenizer) if body.echo else ""
            found.append((text, tuple(prompt)))
    return found


def _decoded(tokens: Sequence[int], tokenizer: Any) -> str:
    known = len(tokenizer)
    if any(token >= known for token in tokens):
        raise Fault(400, f"Token ids go up to {known - 1}.", param="prompt", code="invalid_token")
    text: str = tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)
    return text


def _completion(prepared: _Prepared, answers: Sequence[Completion], running: Running) -> TextCompletion:
    body, target = prepared.body, prepared.target
    identity, created = answering.new_id("cmpl")
    names = target.base.token_bytes
    choices = []
    for index, given in enumerate(answers):
        echo = prepared.echoes[index]
        logprobs = None
        if body.logprobs is not None:
            logprobs = _logprobs(given.prompt_tokens, given.tokens, len(echo), names, body.logprobs)
        choices.append(
            CompletionChoice(
                text=echo + given.text,
                index=index,
                logprobs=logprobs,
                finish_reason="stop" if given.finish == "stop" else "length",
            )
        )
    return TextCompletion(
        id=identity,
        created=created,
        model=body.model,
        choices=choices,
        usage=count_usage([given.usage for given in answers], prepared.prompts),
        system_fingerprint=answering.fingerprint(target),
        allmend=answering.provenance(target, None, running),
    )


async def _chunks(prepared: _Prepared, running: Running) -> AsyncIterator[TextCompletion | bytes]:
    body, target = prepared.body, prepared.target
    identity, created = answering.new_id("cmpl")
    mark, names = answering.fingerprint(target), target.base.token_bytes

    def chunk(choices: list[CompletionChoice]) -> TextCompletion:
        return TextCompletion(id=identity, created=created, model=body.model, choices=choices, system_fingerprint=mark)

    first = chunk([])
    first.allmend = answering.provenance(target, None, running)
    first.choices = [
        CompletionChoice(text=echo, index=index, finish_reason=None) for index, echo in enumerate(prepared.echoes)
    ]
    yield first
    usages: dict[int, Usage] = {}
    quick = streams.QuickEvents(chunk([]), '"text":%s')
    async for index, piece in running.pieces():
        if piece.usage is not None:
            usages[index] = piece.usage
        if body.logprobs is None and piece.finish is None:
            if piece.text:
                yield quick(index, piece.text)
            continue
        reason: FinishReason | None = None
        if piece.finish is not None:
            reason = "stop" if piece.finish == "stop" else "length"
        logprobs = None
        if body.logprobs is not None and (piece.tokens or piece.prompt_tokens):
            before = len(prepared.echoes[index])
            logprobs = _logprobs(piece.prompt_tokens, piece.tokens, before, names, body.logprobs)
        yield chunk([CompletionChoice(text=piece.text, index=index, logprobs=logprobs, finish_reason=reason)])
    if body.stream_options is not None and body.stream_options.include_usage:
        last = chunk([])
        last.usage = count_usage([usages[index] for index in sorted(usages)], prepared.prompts)
        yield last


def _logprobs(
    prompt: Sequence[TokenInfo], tokens: Sequence[TokenInfo], before: int, names: TokenBytes, top: int
) -> CompletionLogprobs:
    offsets = [*_prompt_offsets(prompt, names), *(before + token.offset for token in tokens)]
    every = [*prompt, *tokens]
    return CompletionLogprobs(
        tokens=[names.text(token.id) for token in every],
        token_logprobs=[token.logprob for token in every],
        top_logprobs=[_best(token, names) for token in every] if top > 0 else None,
        text_offset=offsets,
    )


def _prompt_offsets(prompt: Sequence[TokenInfo], names: TokenBytes) -> list[int]:
    """Where each of the prompt's tokens begins in its text, in characters; special tokens have no text."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    offsets, place = [], 0
    for token in prompt:
        offsets.append(place)
        if not names.is_special(token.id):
            place += len(decoder.decode(names(token.id)))
    return offsets


def _best(token: TokenInfo, names: TokenBytes) -> dict[str, float] | None:
    if token.logprob is None:
        return None
    found = {text: logprob for text, logprob, _ in answering.best(token, names)}
    # The picked token is always among them, as clients expect, even when it is not one of the best.
    found.setdefault(names.text(token.id), token.logprob)
    return found
