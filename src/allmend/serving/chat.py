"""`/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from allmend.data.templates import Template
from allmend.data.tokens import encode_prompt
from allmend.engines.text import Completion, Piece, TextRequest, TokenInfo, Usage
from allmend.engines.token_bytes import TokenBytes
from allmend.errors import InputError
from allmend.serving import answering
from allmend.serving.faults import Fault, unsupported
from allmend.serving.registry import Registry, Target
from allmend.serving.requests import ChatMessage, ChatRequest
from allmend.serving.responses import (
    ChatAnswer,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    FinishReason,
    TokenLogprob,
    TopLogprob,
)


@dataclass(frozen=True)
class _Prepared:
    """A chat request that has been understood."""

    body: ChatRequest
    target: Target
    template: Template
    requests: list[TextRequest]


async def answer(request: Request, body: ChatRequest, registry: Registry) -> ChatCompletion | StreamingResponse:
    """Answer a chat, whole or as a stream."""
    prepared = await run_in_threadpool(_prepare, body, registry)
    running = answering.Running(prepared.target.base.engine, prepared.requests)
    if body.stream:
        return answering.stream(_chunks(prepared, running))
    return _completion(prepared, await answering.whole(request, running, len(prepared.requests)))


def _prepare(body: ChatRequest, registry: Registry) -> _Prepared:
    _refuse_unsupported(body)
    target = registry.find(body.model, body.lora)
    template = target.template
    messages = [_message(message, place) for place, message in enumerate(body.messages)]
    try:
        prompt = tuple(encode_prompt(messages, target.base.tokenizer, template))
    except InputError as error:
        raise Fault(400, error.message, param="messages", code="invalid_messages") from None
    wanted = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    answering.check_room(len(prompt), target, "messages", wanted=wanted)
    if wanted is None:
        wanted = target.base.answer_limit
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    requests = [
        TextRequest(
            prompt,
            answering.sampling_of(
                body,
                max_tokens=wanted,
                logprobs=logprobs,
                index=index,
                stops=target.turn_stops,
                drop_space=target.drops_space,
            ),
            target.uses,
        )
        for index in range(body.n or 1)
    ]
    return _Prepared(body, target, template, requests)


def _refuse_unsupported(body: ChatRequest) -> None:
    """Refuse what would change the answer and is not done here, rather than answer something else."""
    if body.response_format is not None and body.response_format.type != "text":
        raise unsupported(f"response_format {body.response_format.type!r}", "response_format")
    if body.modalities is not None and body.modalities != ["text"]:
        raise unsupported("an answer in other forms than text", "modalities")
    if body.tool_choice not in (None, "none", "auto"):
        raise unsupported("tool_choice", "tool_choice")
    for name in ("tools", "functions", "audio", "prediction", "web_search_options", "reasoning_effort", "verbosity"):
        if getattr(body, name):
            raise unsupported(name, name)


def _message(message: ChatMessage, place: int) -> dict[str, Any]:
    values = message.model_dump(exclude_none=True)
    if isinstance(message.content, list):
        for number, part in enumerate(message.content):
            if part.type not in ("text", "input_text") or part.text is None:
                raise unsupported(f"a message part of type {part.type!r}", f"messages[{place}].content[{number}].type")
        values["content"] = "\n".join(part.text or "" for part in message.content)
    if message.content is None:
        if message.role != "assistant" or not values.get("tool_calls"):
            raise Fault(400, "A message needs content.", param=f"messages[{place}].content", code="invalid_messages")
        values["content"] = ""
    return values


def _completion(prepared: _Prepared, answers: Sequence[Completion]) -> ChatCompletion:
    target = prepared.target
    identity, created = answering.new_id("chatcmpl")
    names = target.base.token_bytes
    choices = [
        ChatChoice(
            index=index,
            message=ChatAnswer(content=given.text),
            logprobs=_logprobs(given.tokens, names) if prepared.body.logprobs else None,
            finish_reason="stop" if given.finish == "stop" else "length",
        )
        for index, given in enumerate(answers)
    ]
    return ChatCompletion(
        id=identity,
        created=created,
        model=prepared.body.model,
        choices=choices,
        usage=answering.count_usage([given.usage for given in answers]),
        system_fingerprint=answering.fingerprint(target),
        allmend=answering.provenance(target, prepared.template),
    )


async def _chunks(prepared: _Prepared, running: answering.Running) -> AsyncIterator[ChatChunk]:
    target, body = prepared.target, prepared.body
    identity, created = answering.new_id("chatcmpl")
    mark = answering.fingerprint(target)

    def chunk(choices: list[ChatChunkChoice]) -> ChatChunk:
        return ChatChunk(id=identity, created=created, model=body.model, choices=choices, system_fingerprint=mark)

    for index in range(len(prepared.requests)):
        first = chunk([ChatChunkChoice(index=index, delta=ChatDelta(role="assistant", content=""))])
        if index == 0:
            first.allmend = answering.provenance(target, prepared.template)
        yield first
    usages: list[Usage] = []
    async for index, piece in running.pieces():
        if piece.usage is not None:
            usages.append(piece.usage)
        yield chunk([_delta(index, piece, body, target.base.token_bytes)])
    if body.stream_options is not None and body.stream_options.include_usage:
        last = chunk([])
        last.usage = answering.count_usage(usages)
        yield last


def _delta(index: int, piece: Piece, body: ChatRequest, names: TokenBytes) -> ChatChunkChoice:
    reason: FinishReason | None = None
    if piece.finish is not None:
        reason = "stop" if piece.finish == "stop" else "length"
    return ChatChunkChoice(
        index=index,
        delta=ChatDelta(content=piece.text or None),
        logprobs=_logprobs(piece.tokens, names) if body.logprobs and piece.tokens else None,
        finish_reason=reason,
    )


def _logprobs(tokens: Sequence[TokenInfo], names: TokenBytes) -> ChatLogprobs:
    content = []
    for token in tokens:
        top = [
            TopLogprob(token=text, logprob=logprob, bytes=raw) for text, logprob, raw in answering.best(token, names)
        ]
        content.append(
            TokenLogprob(
                token=names.text(token.id),
                logprob=token.logprob if token.logprob is not None else 0.0,
                bytes=list(names(token.id)),
                top_logprobs=top,
            )
        )
    return ChatLogprobs(content=content)
