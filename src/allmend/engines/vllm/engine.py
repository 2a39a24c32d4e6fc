"""The vLLM text engine: the same protocol over vLLM's asynchronous engine, on an event loop in a thread of its own.

Not covered by this project's tests beyond its refusal where vLLM is missing: they run without a GPU.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from collections.abc import Sequence as Tokens
from pathlib import Path
from typing import Any

from allmend.adapters import AdapterWeights
from allmend.engines.constraint import schema_of
from allmend.engines.text import (
    AdapterUse,
    Completion,
    Finish,
    Piece,
    Sampling,
    Scored,
    Sink,
    TextRequest,
    Ticket,
    TokenInfo,
    Usage,
    gather,
    together,
)
from allmend.errors import DoesNotFit, InputError, NotFound, Unavailable, UsageError, nearest

_MAX_RANK = 64


class VllmEngine:
    """A model folder on a GPU, with adapters by name.

    Args:
        path: the model's folder.
        context: most tokens of a prompt and its answer.
        parallel: answers generated at once.
        slots: adapters on the GPU at once.
    """

    def __init__(self, path: Path, *, context: int, parallel: int, slots: int) -> None:
        try:
            from vllm import AsyncEngineArgs  # type: ignore[import-not-found,unused-ignore]
            from vllm.v1.engine.async_llm import AsyncLLM  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise Unavailable("the vllm engine needs vLLM, which is not installed", hint="pip install vllm") from None
        self._context = context
        self._adapters: dict[str, tuple[int, Path]] = {}
        self._made = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="allmend-vllm", daemon=True)
        self._thread.start()
        arguments = AsyncEngineArgs(
            model=str(path),
            max_model_len=context,
            max_num_seqs=parallel,
            enable_lora=True,
            max_loras=min(slots, parallel),
            max_cpu_loras=max(slots, min(slots, parallel)),
            max_lora_rank=_MAX_RANK,
            enable_prefix_caching=True,
        )

        async def make() -> Any:
            return AsyncLLM.from_engine_args(arguments)

        self._engine: Any = asyncio.run_coroutine_threadsafe(make(), self._loop).result()
        self._running = 0
        self._closing = False

    @property
    def context(self) -> int:
        """Most tokens that prompt and answer may have together."""
        return self._context

    def adapters(self) -> tuple[str, ...]:
        """Names that can be used."""
        return tuple(self._adapters)

    def add_adapter(self, name: str, weights: object) -> None:
        """Make an adapter usable. A number of its own for every content keeps vLLM's caches apart."""
        if not isinstance(weights, AdapterWeights):
            raise TypeError(f"the vllm engine takes adapters as read, not {type(weights).__name__}")
        rank = max(int(a.shape[0]) for a, _ in weights.modules.values())
        if rank > _MAX_RANK:
            raise InputError(f"its rank is {rank}; at most {_MAX_RANK} is served", where=f"adapter {name!r}")
        self._made += 1
        self._adapters[name] = (self._made, weights.folder)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; requests that use it run to their end."""
        self._known(name)
        del self._adapters[name]

    def load(self) -> tuple[int, int]:
        """(answers being generated, answers that wait); vLLM does not tell them apart."""
        return self._running, 0

    def submit(self, request: TextRequest, sink: Sink) -> Ticket:
        """Take a request; its pieces go to `sink` on the engine's thread."""
        if self._closing:
            raise Unavailable("the engine is closed")
        room = self._context - len(request.prompt)
        if not request.prompt or room < 1:
            raise DoesNotFit(f"the prompt has {len(request.prompt)} tokens; the context holds {self._context}")
        if len(request.adapters) > 1 or any(use.scale != 1 for use in request.adapters):
            raise UsageError("the vllm engine applies one adapter, at its own strength")
        if request.sampling.prompt_logprobs is not None or request.sampling.max_tokens == 0:
            raise UsageError("the vllm engine does not score prompts", hint="Serve with --engine torch.")
        lora = None
        if request.adapters:
            from vllm.lora.request import LoRARequest  # type: ignore[import-not-found,unused-ignore]

            number, folder = self._known(request.adapters[0].name)
            lora = LoRARequest(f"{request.adapters[0].name}#{number}", number, str(folder))
        # Whoever has it tells the end: what is cancelled before it has begun never runs, and would tell nobody.
        teller = threading.Lock()
        task = asyncio.run_coroutine_threadsafe(self._run(request, sink, room, lora, teller), self._loop)
        last = Piece(finish="cancelled", usage=Usage(len(request.prompt), 0))
        task.add_done_callback(lambda _: sink(last) if teller.acquire(blocking=False) else None)
        return _Ticket(task)

    def generate(self, requests: Tokens[TextRequest]) -> Iterator[tuple[int, Piece]]:
        """Run requests together; (index of the request, piece) as they come. Closing it cancels the rest."""
        return together(self.submit, requests)

    def complete(self, requests: Tokens[TextRequest]) -> list[Completion]:
        """Run requests together and return whole answers, in order."""
        return gather(len(requests), self.generate(requests))

    def score(
        self, prompt: Tokens[int], completions: Tokens[Tokens[int]], adapters: tuple[AdapterUse, ...] = ()
    ) -> list[Scored]:
        """Not offered here."""
        raise UsageError("the vllm engine does not score prompts", hint="Serve with --engine torch.")

    def close(self) -> None:
        """Stop; what still runs ends as `cancelled`."""
        if not self._closing:
            self._closing = True
            self._engine.shutdown()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=30)

    def _known(self, name: str) -> tuple[int, Path]:
        if name not in self._adapters:
            raise NotFound(f"there is no adapter {name!r}", hint=nearest(name, self._adapters) or None)
        return self._adapters[name]

    async def _run(self, request: TextRequest, sink: Sink, room: int, lora: Any, teller: threading.Lock) -> None:
        if not teller.acquire(blocking=False):
            return
        sampling, count, written = request.sampling, 0, 0
        finish: Finish = "stop"
        error = None
        self._running += 1
        try:
            outputs = self._engine.generate(
                {"prompt_token_ids": list(request.prompt)}, _parameters(sampling, room), uuid.uuid4().hex,
                lora_request=lora,
            )  # fmt: skip
            async for output in outputs:
                (choice,) = output.outputs
                text = choice.text
                if sampling.drop_space and written == 0:
                    text = text.removeprefix(" ")
                count += len(choice.token_ids)
                sink(Piece(text, _tokens(choice, sampling, written)))
                written += len(text)
                if choice.finish_reason is not None:
                    finish = "length" if choice.finish_reason == "length" else "stop"
        except asyncio.CancelledError:
            finish = "cancelled"
        except Exception as failure:
            finish, error = "error", f"the model failed: {type(failure).__name__}: {failure}"
        finally:
            self._running -= 1
            sink(Piece(finish=finish, usage=Usage(len(request.prompt), count), error=error))


class _Ticket:
    def __init__(self, task: Any) -> None:
        self._task = task

    def cancel(self) -> None:
        """End it soon."""
        self._task.cancel()


def _tokens(choice: Any, sampling: Sampling, offset: int) -> tuple[TokenInfo, ...]:
    if sampling.logprobs is None or not choice.logprobs:
        return tuple(TokenInfo(token, None, (), offset) for token in choice.token_ids)
    found = []
    for token, known in zip(choice.token_ids, choice.logprobs, strict=False):
        best = sorted(((each, one.logprob) for each, one in known.items()), key=lambda pair: -pair[1])
        found.append(TokenInfo(token, known[token].logprob, tuple(best[: sampling.logprobs]), offset))
    return tuple(found)


def _parameters(sampling: Sampling, room: int) -> Any:
    from vllm import SamplingParams  # type: ignore[import-not-found,unused-ignore]
    from vllm.sampling_params import (  # type: ignore[import-not-found,unused-ignore]
        RequestOutputKind,
        StructuredOutputsParams,
    )

    structured = None
    if sampling.grammar is not None:
        schema = schema_of(sampling.grammar)
        if schema is None:
            raise InputError("the vllm engine follows JSON schemas only", hint="Serve with --engine torch.")
        structured = StructuredOutputsParams(json={k: v for k, v in schema.items() if k != "x-guidance"})
    return SamplingParams(
        max_tokens=room if sampling.max_tokens is None else min(sampling.max_tokens, room),
        temperature=sampling.temperature,
        top_p=sampling.top_p or 1e-6,
        top_k=sampling.top_k or -1,
        seed=sampling.seed,
        stop=list(sampling.stop),
        stop_token_ids=list(sampling.stop_tokens),
        ignore_eos=sampling.ignore_end,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        logit_bias=dict(sampling.logit_bias) or None,
        logprobs=sampling.logprobs,
        structured_outputs=structured,
        output_kind=RequestOutputKind.DELTA,
    )
