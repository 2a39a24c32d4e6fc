"""From an engine's pieces, which come on its own thread, to answers and event streams of the web server."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from allmend.data.templates import Template
from allmend.engines.text import Completion, Piece, Sampling, TextEngine, TextRequest, TokenInfo, Usage, gather
from allmend.engines.token_bytes import TokenBytes
from allmend.serving.faults import Fault, context_exceeded
from allmend.serving.meter import Meter
from allmend.serving.registry import Registry, Target
from allmend.serving.requests import Common
from allmend.serving.responses import PromptDetails, Provenance, UsageCount

_LOOK_FOR_CLIENT = 0.25
"""Seconds between looks whether a client that waits for a whole answer is still there."""


class ClientGone(Exception):
    """Whoever asked has hung up; there is nobody to answer."""


class Running:
    """Requests that an engine works on, with their pieces on this event loop."""

    def __init__(self, engine: TextEngine, requests: Sequence[TextRequest], meter: Meter | None = None) -> None:
        self._meter, self._began, self._told = meter, time.perf_counter(), False
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()
        self._left = len(requests)
        self._tickets: list[Any] = []
        try:
            for index, request in enumerate(requests):
                self._tickets.append(engine.submit(request, self._sink(index)))
        except BaseException:
            self.cancel()
            raise

    def _sink(self, index: int) -> Any:
        def sink(piece: Piece) -> None:
            try:
                self._loop.call_soon_threadsafe(self._pieces.put_nowait, (index, piece))
            except RuntimeError:
                self.cancel()  # The event loop is closed: nobody listens any more.

        return sink

    def cancel(self) -> None:
        """End what still runs."""
        for ticket in self._tickets:
            ticket.cancel()

    def _count(self, piece: Piece) -> None:
        if self._meter is None:
            return
        if not self._told and piece.text:
            self._told = True
            self._meter.first.observe(time.perf_counter() - self._began)
        if piece.usage is not None:
            self._meter.used(piece.usage)

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """(index of the request, piece) as they come; leaving early cancels the rest."""
        try:
            while self._left:
                index, piece = await self._pieces.get()
                self._count(piece)
                if piece.finish is not None:
                    self._left -= 1
                    _raise_failure(piece)
                yield index, piece
        finally:
            self.cancel()


async def begin(registry: Registry, target: Target, requests: Sequence[TextRequest]) -> Running:
    """Set requests going, with the adapters they use in memory."""
    await run_in_threadpool(registry.hold, target)
    try:
        return Running(target.base.engine, requests, registry.meter)
    finally:
        # What runs keeps its adapters itself.
        registry.release(target)


async def whole(request: Request, running: Running, count: int) -> list[Completion]:
    """All answers, in order; raises `ClientGone` as soon as the client hangs up."""

    async def collect() -> list[tuple[int, Piece]]:
        return [item async for item in running.pieces()]

    collecting = asyncio.ensure_future(collect())
    try:
        while not (await asyncio.wait({collecting}, timeout=_LOOK_FOR_CLIENT))[0]:
            if await request.is_disconnected():
                raise ClientGone
        return gather(count, iter(collecting.result()))
    finally:
        collecting.cancel()
        running.cancel()


def _raise_failure(piece: Piece) -> None:
    if piece.finish == "error":
        raise Fault(500, piece.error or "The model failed.", type="server_error", code="engine_failed")
    if piece.finish == "cancelled":
        raise Fault(503, "The server is shutting down.", type="server_error", code="shutting_down")


class QuickEvents:
    """Events that only add text, written out without a model: there is one for every token of everybody.

    Args:
        chunk: an event of the stream, whose fields beside `choices` all events share.
        around: what stands around the text in a choice, as JSON, with `%s` for it.
    """

    def __init__(self, chunk: BaseModel, around: str) -> None:
        shared = chunk.model_dump(exclude_none=True, exclude={"choices", "usage", "allmend"})
        self._head = json.dumps(shared, ensure_ascii=False, separators=(",", ":"))[:-1]
        self._around = around

    def __call__(self, index: int, text: str) -> bytes:
        """The event that adds `text` to answer `index`."""
        inside = self._around % json.dumps(text, ensure_ascii=False)
        choice = f'{{"index":{index},{inside},"finish_reason":null}}'
        return f'data: {self._head},"choices":[{choice}]}}\n\n'.encode()


def stream(events: AsyncIterator[BaseModel | bytes]) -> StreamingResponse:
    """Server-sent events ending with `[DONE]`; a failure on the way is an event of its own."""

    async def lines() -> AsyncIterator[bytes]:
        try:
            async for event in events:
                yield event if isinstance(event, bytes) else event_bytes(event)
            yield b"data: [DONE]\n\n"
        except Fault as fault:
            yield b"data: " + json.dumps(fault.body(), ensure_ascii=False).encode() + b"\n\n"

    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)


def event_bytes(event: BaseModel) -> bytes:
    """One event: fields that hold nothing are left out, but for `finish_reason`, which clients look for."""
    values = event.model_dump(exclude_none=True)
    for choice in values.get("choices", ()):
        choice.setdefault("finish_reason", None)
    return b"data: " + json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def sampling_of(
    body: Common,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    index: int = 0,
    prompt_logprobs: int | None = None,
    stops: tuple[str, ...] = (),
    drop_space: bool = False,
    grammar: str | None = None,
) -> Sampling:
    """A request's fields as sampling settings; of `n` answers each has a seed of its own."""
    return Sampling(
        max_tokens=max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=max(body.top_k or 0, 0),
        seed=None if body.seed is None else body.seed + index,
        stop=(*body.stops, *stops),
        stop_tokens=frozenset(body.stop_token_ids or ()),
        drop_space=drop_space,
        ignore_end=body.ignore_eos,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias={int(token): bias for token, bias in (body.logit_bias or {}).items()},
        logprobs=logprobs,
        grammar=grammar,
        prompt_logprobs=prompt_logprobs,
    )


def check_room(tokens: int, target: Target, param: str, *, wanted: int | None) -> None:
    """Raise a `Fault` when a prompt leaves no room for an answer."""
    if tokens == 0:
        raise Fault(400, "The prompt is empty.", param=param, code="empty_prompt")
    context = target.base.engine.context
    if tokens > context or (tokens == context and wanted != 0):
        fault = context_exceeded(tokens, context)
        fault.detail.param = param
        raise fault


def provenance(target: Target, template: Template | None) -> Provenance:
    """What answers, in every response."""
    return Provenance(
        base=target.base.name,
        model_digest=target.base.digest,
        adapter=target.label,
        adapter_digest="+".join(adapter.digest for adapter in target.adapters) or None,
        template=template.name if template else None,
        template_digest=template.digest if template else None,
    )


def fingerprint(target: Target) -> str:
    """Short name of what answers, that changes when it does."""
    parts = [target.base.digest[:10], *(adapter.digest[:10] for adapter in target.adapters)]
    return "fp_" + "_".join(parts)


def count_usage(usages: Sequence[Usage], prompts: int | None = None) -> UsageCount:
    """Usage of answers together; a prompt with several answers is counted once.

    Args:
        prompts: number of different prompts, whose answers lie side by side; by default one.
    """
    each = len(usages) // (prompts or 1) or 1
    prompt = sum(usage.prompt for usage in usages[::each])
    completion = sum(usage.completion for usage in usages)
    cached = sum(usage.cached for usage in usages[::each])
    return UsageCount(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptDetails(cached_tokens=cached),
    )


def new_id(kind: str) -> tuple[str, int]:
    """An id for a response, and the time of its making in whole seconds."""
    return f"{kind}-{uuid.uuid4().hex}", int(time.time())


def best(token: TokenInfo, names: TokenBytes) -> list[tuple[str, float, list[int]]]:
    """The best tokens at a token's place as (text, log-probability, bytes)."""
    return [(names.text(each), logprob, list(names(each))) for each, logprob in token.top]
