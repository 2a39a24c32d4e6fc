"""From a request to what the engine is asked, with a place in the queue; and what every answer says of itself."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from allmend.data.templates import Template
from allmend.engines.text import Sampling, TokenInfo
from allmend.engines.token_bytes import TokenBytes
from allmend.errors import AllmendError
from allmend.serving import visit as visits
from allmend.serving.faults import Fault, context_exceeded
from allmend.serving.gate import Overloaded
from allmend.serving.registry import Registry
from allmend.serving.requests import Common
from allmend.serving.responses import Provenance
from allmend.serving.running import Prepared, Running
from allmend.serving.targets import Target
from allmend.serving.visit import Visit

_QUICK_BYTES = 2048
"""Bytes of a request that is understood on the event loop."""

B = TypeVar("B", bound=Common)
P = TypeVar("P", bound=Prepared)


async def begin(
    request: Request, body: B, registry: Registry, prepare: Callable[[B, Registry], P]
) -> tuple[P, Running]:
    """Understand a request and take a place in the queue for it; with a fallback where the operator allows one."""
    visit = visits.of(request)
    body = _for_user(body, visit, registry)
    _refuse_early(body, visit, registry)
    while True:
        for name, base in registry.unknown(body.model, body.lora):
            # A key that does not cover it, or may ask for no other, must not have it fetched either.
            visit.require_name("serve:chat", name, [base] if base else [each.name for each in registry.bases()])
            visit.check_another_adapter()
            with visit.discreet():
                await registry.lookups.wait(name, base)
        quick = _is_quick(request, body, registry)
        with visit.discreet():
            prepared = prepare(body, registry) if quick else await run_in_threadpool(prepare, body, registry)
        visit.require("serve:chat", prepared.target)
        try:
            if not registry.use(prepared.target.base):
                continue  # It was replaced at this moment.
            try:
                _check_up(body, visit, prepared, registry)
                visit.admit(prepared.target, answers=len(prepared.requests), tokens=_most_tokens(prepared))
            except BaseException:
                registry.done(prepared.target.base)
                raise
        except Overloaded as error:
            other = _fallback(body, visit, prepared, registry)
            if other is None:
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


def _fallback(body: Common, visit: Visit, prepared: Prepared, registry: Registry) -> str | None:
    """What answers in its place; None where nothing may, or the key does not cover that."""
    fallbacks = visit.desk.fallbacks
    other = fallbacks.get(body.model) or fallbacks.get(prepared.target.base.name)
    if other is None or visit.fallback_from is not None:
        return None
    try:
        visit.require("serve:chat", registry.find(other))
    except (Fault, AllmendError):
        return None  # Who may not ask for it, or finds it gone, is told of the model that was asked for.
    return other


def _check_up(body: Common, visit: Visit, prepared: Prepared, registry: Registry) -> None:
    """Raise `Overloaded` where the engine starts again after a crash and another may answer meanwhile."""
    if _is_up(prepared.target):
        return
    other = _fallback(body, visit, prepared, registry)
    if other is not None and _is_up(registry.find(other)):
        raise Overloaded("The engine starts again.", retry_after=1.0, place=1)


def _is_up(target: Target) -> bool:
    return bool(getattr(target.base.engine, "is_up", True))


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
        visit.desk.gate(base).check(visit.share, answers=body.n or 1, priority=visit.priority, deadline=visit.deadline)
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


def sampling_of(
    body: Common,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    index: int = 0,
    prompt_logprobs: int | None = None,
    stops: tuple[str, ...] = (),
    drop_space: bool = False,
    goes_on: bool = False,
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
        goes_on=goes_on,
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
    parts = [target.base.digest[:10], *(adapter.identity[:10] for adapter in target.adapters)]
    return "fp_" + "_".join(parts)


def new_id(kind: str) -> tuple[str, int]:
    """An id for a response, and the time of its making in whole seconds."""
    return f"{kind}-{uuid.uuid4().hex}", int(time.time())


def best(token: TokenInfo, names: TokenBytes) -> list[tuple[str, float, list[int]]]:
    """The best tokens at a token's place as (text, log-probability, bytes)."""
    return [(names.text(each), logprob, list(names(each))) for each, logprob in token.top]
