"""`/v1/chat/completions`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from allmend.data.templates import Template
from allmend.data.tokens import encode_prompt
from allmend.engines import constraint
from allmend.engines.text import Completion, Finish, Piece, TextRequest, TokenInfo, Usage
from allmend.engines.token_bytes import TokenBytes
from allmend.errors import InputError
from allmend.serving import answering, streams, tools
from allmend.serving.faults import Fault, unsupported
from allmend.serving.file_search import searched
from allmend.serving.registry import Registry
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
    Provenance,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    TopLogprob,
)
from allmend.serving.running import Running, count_usage, whole
from allmend.serving.targets import Target
from allmend.serving.tools import CallWatch, Toolbox


@dataclass(frozen=True)
class Prepared:
    """A chat request that has been understood."""

    body: ChatRequest
    target: Target
    template: Template
    requests: list[TextRequest]
    toolbox: Toolbox | None
    prompts: int = 1


async def answer(request: Request, body: ChatRequest, registry: Registry) -> ChatCompletion | StreamingResponse:
    """Answer a chat, whole or as a stream."""
    body = await searched(body, registry, request)
    prepared, running = await begin(request, body, registry)
    if body.stream:
        return streams.stream(_chunks(prepared, running), running)
    return _completion(prepared, await whole(request, running, len(prepared.requests)), running)


async def begin(request: Request, body: ChatRequest, registry: Registry) -> tuple[Prepared, Running]:
    """Understand a request and take a place in the queue for it."""
    return await answering.begin(request, body, registry, prepare)


def prepare(body: ChatRequest, registry: Registry) -> Prepared:
    """Understand a request; raises `Fault` and allmend's own errors."""
    _refuse_unsupported(body)
    target = registry.find(body.model, body.lora)
    template = target.template
    toolbox = tools.of_request(body, template)
    grammar = _grammar(body, toolbox)
    messages = [_message(message, place) for place, message in enumerate(body.messages)]
    try:
        prompt = tuple(
            encode_prompt(messages, target.base.tokenizer, template, tools=toolbox.described() if toolbox else None)
        )
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
                drop_space=target.drops_space and grammar is None,
                grammar=grammar,
            ),
            target.uses,
        )
        for index in range(body.n or 1)
    ]
    return Prepared(body, target, template, requests, toolbox)


def _refuse_unsupported(body: ChatRequest) -> None:
    """Refuse what would change the answer and is not done here, rather than answer something else."""
    if body.modalities is not None and body.modalities != ["text"]:
        raise unsupported("an answer in other forms than text", "modalities")
    for name in (
        "functions",
        "function_call",
        "audio",
        "prediction",
        "web_search_options",
        "reasoning_effort",
        "verbosity",
    ):
        if getattr(body, name):
            raise unsupported(name, name)


def _grammar(body: ChatRequest, toolbox: Toolbox | None) -> str | None:
    """What the answers must follow."""
    asked = body.response_format
    if toolbox is not None and toolbox.grammar is not None:
        return toolbox.grammar
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_schema" and asked.json_schema is not None:
        return constraint.of_schema(asked.json_schema.schema_)
    if asked.grammar is not None:
        return constraint.of_lark(asked.grammar)
    if asked.regex is not None:
        return constraint.of_regex(asked.regex)
    return constraint.of_schema({"type": "object"})


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
    for call in values.get("tool_calls") or ():
        # Clients send arguments as text; templates write them out as the values they are.
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            with suppress(ValueError, RecursionError):
                function["arguments"] = json.loads(function["arguments"])
    return values


def provenance(prepared: Prepared, running: Running) -> Provenance:
    """What answers, and what was looked up for it."""
    made = answering.provenance(prepared.target, prepared.template, running)
    made.searched = prepared.body.searched
    return made


def _completion(prepared: Prepared, answers: Sequence[Completion], running: Running) -> ChatCompletion:
    target = prepared.target
    identity, created = answering.new_id("chatcmpl")
    names = target.base.token_bytes
    choices = []
    for index, given in enumerate(answers):
        said, calls = prepared.toolbox.read(given.text) if prepared.toolbox else (given.text, [])
        choices.append(
            ChatChoice(
                index=index,
                message=ChatAnswer(content=said or None if calls else said, tool_calls=calls or None),
                logprobs=_logprobs(given.tokens, names) if prepared.body.logprobs else None,
                finish_reason=_reason(given.finish, calls),
            )
        )
    return ChatCompletion(
        id=identity,
        created=created,
        model=prepared.body.model,
        choices=choices,
        usage=count_usage([given.usage for given in answers]),
        system_fingerprint=answering.fingerprint(target),
        allmend=provenance(prepared, running),
    )


async def _chunks(prepared: Prepared, running: Running) -> AsyncIterator[ChatChunk | bytes]:
    target, body = prepared.target, prepared.body
    identity, created = answering.new_id("chatcmpl")
    mark = answering.fingerprint(target)

    def chunk(choices: list[ChatChunkChoice]) -> ChatChunk:
        return ChatChunk(id=identity, created=created, model=body.model, choices=choices, system_fingerprint=mark)

    for index in range(len(prepared.requests)):
        first = chunk([ChatChunkChoice(index=index, delta=ChatDelta(role="assistant", content=""))])
        if index == 0:
            first.allmend = provenance(prepared, running)
        yield first
    usages: list[Usage] = []
    quick = streams.QuickEvents(chunk([]), '"delta":{"content":%s}')
    watches = [CallWatch() if prepared.toolbox else None for _ in prepared.requests]
    async for index, piece in running.pieces():
        if piece.usage is not None:
            usages.append(piece.usage)
        if not body.logprobs and prepared.toolbox is None and piece.finish is None:
            if piece.text:
                yield quick(index, piece.text)
            continue
        choice = _delta(index, piece, body, target.base.token_bytes)
        watch = watches[index]
        if watch is not None and prepared.toolbox is not None:
            choice.delta.content = watch.feed(piece.text) or None
            if piece.finish is not None:
                said, calls = prepared.toolbox.read(watch.text)
                choice.delta.content = watch.rest(said) or None
                choice.finish_reason = _reason(piece.finish, calls)
                choice.delta.tool_calls = [
                    ToolCallDelta(index=place, **call.model_dump()) for place, call in enumerate(calls)
                ] or None
        yield chunk([choice])
    if body.stream_options is not None and body.stream_options.include_usage:
        last = chunk([])
        last.usage = count_usage(usages)
        yield last


def _delta(index: int, piece: Piece, body: ChatRequest, names: TokenBytes) -> ChatChunkChoice:
    return ChatChunkChoice(
        index=index,
        delta=ChatDelta(content=piece.text or None),
        logprobs=_logprobs(piece.tokens, names) if body.logprobs and piece.tokens else None,
        finish_reason=_reason(piece.finish, []) if piece.finish is not None else None,
    )


def _reason(finish: Finish, calls: Sequence[ToolCall]) -> FinishReason:
    if calls and finish == "stop":
        return "tool_calls"
    return "stop" if finish == "stop" else "length"


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
