"""From an engine's pieces, which come on its own thread, to answers and event streams of the web server."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from allmend.data.templates import Template
from allmend.engines.text import Completion, Piece, Sampling, TextRequest, TokenInfo, Usage, gather
from allmend.engines.token_bytes import TokenBytes
from allmend.errors import AllmendError
from allmend.serving import visit as visits
from allmend.serving.faults import Fault, context_exceeded, of_error
from allmend.serving.gate import Overloaded
from allmend.serving.registry import Registry, Target
from allmend.serving.requests import Common
from allmend.serving.responses import PromptDetails, Provenance, UsageCount
from allmend.serving.visit import Visit

_LOOK_FOR_CLIENT = 0.25
"""Seconds between looks whether a client that waits for a whole answer is still there."""
_TELL_PLACE = 1.0
"""Seconds between two comments that tell the place in the queue."""
_QUICK_BYTES = 2048
"""Bytes of a request that is understood on the event loop."""
_HEAR_OUT = 60.0
"""Seconds that an engine is given to end what was cancelled."""


class ClientGone(Exception):
    """Whoever asked has hung up; there is nobody to answer."""


class Prepared(Protocol):
    """A request that has been understood."""

    @property
    def target(self) -> Target:
        """What answers."""

    @property
    def requests(self) -> list[TextRequest]:
        """What the engine is asked."""

    @property
    def prompts(self) -> int:
        """Number of different prompts among them."""


B = TypeVar("B", bound=Common)
P = TypeVar("P", bound=Prepared)


class Running:
    """Answers of one request, from the queue to their end, with their pieces on this event loop."""

    def __init__(self, visit: Visit, registry: Registry, prepared: Prepared) -> None:
        self._visit, self._registry, self._target = visit, registry, prepared.target
        self._requests, self._prompts = prepared.requests, prepared.prompts
        self._began, self._told = time.perf_counter(), False
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()
        self._left = self._computing = 0
        self._usages: dict[int, Usage] = {}
        self._tickets: list[Any] = []
        self._failed = self._settled = self._ended = False
        visit.works(self.end)

    @property
    def fallback_from(self) -> str | None:
        """The model that was asked for, where another answers."""
        return self._visit.fallback_from

    async def waiting(self) -> AsyncIterator[tuple[int, float]]:
        """(place, estimate in seconds) while the turn has not come, at most once a second; then it is started."""
        while not await self._visit.turn(_TELL_PLACE):
            yield self._visit.place()
        await self.start()

    async def start(self) -> None:
        """Set it going, with the adapters it uses in memory, when its turn has come."""
        if self._tickets:
            return
        await self._visit.turn()
        self._visit.open(self._target)
        if self._target.adapters:
            await run_in_threadpool(self._registry.hold, self._target)
        self._left = self._computing = len(self._requests)
        try:
            for index, request in enumerate(self._requests):
                self._tickets.append(self._target.base.engine.submit(request, self._sink(index)))
            for ticket in self._tickets:
                if (accepted := getattr(ticket, "accepted", None)) is not None:
                    await asyncio.wrap_future(accepted)
        except BaseException:
            self._left = self._computing = len(self._tickets)
            self.cancel()
            raise
        finally:
            # What runs keeps its adapters itself.
            self._registry.release(self._target)

    def _sink(self, index: int) -> Any:
        def sink(piece: Piece) -> None:
            try:
                self._loop.call_soon_threadsafe(self._arrive, index, piece)
            except RuntimeError:
                self.cancel()  # The event loop is closed: nobody listens any more.

        return sink

    def _arrive(self, index: int, piece: Piece) -> None:
        self._pieces.put_nowait((index, piece))
        if piece.finish is not None:
            self._computing -= 1
            if not self._computing:
                # Also where nobody reads the answer: the next one need not wait for that.
                self._visit.leave_gate()

    def cancel(self) -> None:
        """End what still runs."""
        for ticket in self._tickets:
            ticket.cancel()

    def _count(self, index: int, piece: Piece) -> None:
        if piece.usage is not None:
            self._usages[index] = piece.usage
            self._left -= 1
        meter = self._registry.meter
        if meter is None:
            return
        if not self._told and piece.text:
            self._told = True
            meter.first.observe(time.perf_counter() - self._began)
        if piece.usage is not None:
            meter.used(piece.usage)

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """(index of the request, piece) as they come; leaving early cancels the rest.

        The last piece comes after what was used is written down.
        """
        await self.start()
        try:
            while self._left:
                index, piece = await self._pieces.get()
                self._count(index, piece)
                if piece.finish is not None:
                    self._raise_failure(piece)
                    if not self._left:
                        await self._settle("settled")
                yield index, piece
        finally:
            self.cancel()

    def _raise_failure(self, piece: Piece) -> None:
        self._failed = piece.finish in ("error", "lost", "cancelled")
        if self._failed:
            raise _failure(piece)

    async def _settle(self, state: str) -> None:
        if self._settled:
            return
        self._settled = True
        total = count_usage([self._usages[index] for index in sorted(self._usages)], self._prompts)
        await self._visit.settle(
            prompt=total.prompt_tokens,
            cached=total.prompt_tokens_details.cached_tokens,
            completion=total.completion_tokens,
            state=state,
        )

    async def end(self) -> None:
        """Cancel what still runs, hear it to its end, and write down what was used."""
        if self._ended:
            return
        self._ended = True
        self.cancel()
        try:
            while self._left:
                index, piece = await asyncio.wait_for(self._pieces.get(), _HEAR_OUT)
                self._count(index, piece)
        except TimeoutError:
            pass  # An engine that does not answer; what it told so far is counted.
        finally:
            self._registry.done(self._target.base)
        if self._tickets and not self._failed:
            await self._settle("cancelled")


async def begin(
    request: Request, body: B, registry: Registry, prepare: Callable[[B, Registry], P]
) -> tuple[P, Running]:
    """Understand a request and take a place in the queue for it; with a fallback where the operator allows one."""
    visit = visits.of(request)
    body = _for_user(body, visit, registry)
    _refuse_early(body, visit, registry)
    while True:
        quick = _is_quick(request, body, registry)
        prepared = prepare(body, registry) if quick else await run_in_threadpool(prepare, body, registry)
        visit.require("serve:chat", prepared.target)
        try:
            if not registry.use(prepared.target.base):
                continue  # It was replaced at this moment.
            try:
                visit.admit(prepared.target, answers=len(prepared.requests), tokens=_most_tokens(prepared))
            except BaseException:
                registry.done(prepared.target.base)
                raise
        except Overloaded as error:
            other = visit.desk.fallbacks.get(body.model) or visit.desk.fallbacks.get(prepared.target.base.name)
            if other is None or visit.fallback_from is not None:
                raise visits.overloaded(error) from None
            visit.fallback_from = body.model
            visit.headers["x-fallback-from"] = body.model
            body = body.model_copy(update={"model": other, "lora": None})
            continue
        running = Running(visit, registry, prepared)
        if body.stream and not await visit.turn(0):
            return prepared, running  # It starts within the stream, which tells its place until then.
        if body.stream:
            await running.start()
        return prepared, running


def _is_quick(request: Request, body: Common, registry: Registry) -> bool:
    """Whether a request is understood in less time than a thread takes: a short text for what is served already."""
    length = request.headers.get("content-length", "")
    plain = not (getattr(body, "tools", None) or getattr(body, "response_format", None) or body.lora)
    return plain and length.isdigit() and int(length[:9]) <= _QUICK_BYTES and registry.base_of(body.model) is not None


def _refuse_early(body: Common, visit: Visit, registry: Registry) -> None:
    """Raise `Fault` 429 before a prompt is read, where there is no room in time and nothing else may answer."""
    base = registry.base_of(body.model)
    if base is None or body.model in visit.desk.fallbacks or base.name in visit.desk.fallbacks:
        return
    try:
        visit.desk.gate(base).check(answers=body.n or 1, priority=visit.priority, deadline=visit.deadline)
    except Overloaded as error:
        raise visits.overloaded(error) from None


def _for_user(body: B, visit: Visit, registry: Registry) -> B:
    """The request for the adapter of the user behind the key, where only the base was asked for."""
    adapter = visit.user_adapter
    if adapter is None or body.lora is not None or body.model not in {base.name for base in registry.bases()}:
        return body
    known = {each.name: each.base for each in registry.adapters()}
    if known.get(adapter, body.model) != body.model:
        return body
    return body.model_copy(update={"model": f"{body.model}:{adapter}"})


def _most_tokens(prepared: Prepared) -> int:
    """The most tokens of prompts and answers together."""
    context = prepared.target.base.engine.context
    total = 0
    each = len(prepared.requests) // prepared.prompts or 1
    for place, request in enumerate(prepared.requests):
        room = max(context - len(request.prompt), 0)
        wanted = request.sampling.max_tokens
        total += (room if wanted is None else min(wanted, room)) + (len(request.prompt) if place % each == 0 else 0)
    return total


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


def _failure(piece: Piece) -> Fault:
    if piece.finish == "lost":
        headers = {"retry-after": "1", "retry-after-ms": "500", "x-should-retry": "true"}
        words = "The engine failed and starts again; ask once more."
        return Fault(503, words, type="server_error", code="engine_restarted", headers=headers)
    if piece.finish == "cancelled":
        return Fault(503, "The server is shutting down.", type="server_error", code="shutting_down")
    return Fault(500, piece.error or "The model failed.", type="server_error", code="engine_failed")


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


def stream(events: AsyncIterator[BaseModel | bytes], running: Running) -> StreamingResponse:
    """Server-sent events ending with `[DONE]`; a failure on the way is an event of its own.

    While the turn has not come, comments tell the place in the queue, which clients skip.
    """

    async def lines() -> AsyncIterator[bytes]:
        try:
            async for place, seconds in running.waiting():
                yield queue_comment(place, seconds)
            async for event in events:
                yield event if isinstance(event, bytes) else event_bytes(event)
            yield b"data: [DONE]\n\n"
        except (Fault, AllmendError) as error:
            fault = error if isinstance(error, Fault) else of_error(error)
            yield b"data: " + json.dumps(fault.body(), ensure_ascii=False).encode() + b"\n\n"

    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)


def queue_comment(place: int, seconds: float) -> bytes:
    """A comment of an event stream that tells the place in the queue."""
    return f": queue place={place} estimate={seconds:.1f}s\n\n".encode()


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


def provenance(target: Target, template: Template | None, running: Running | None = None) -> Provenance:
    """What answers, in every response."""
    return Provenance(
        fallback_from=running.fallback_from if running else None,
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
