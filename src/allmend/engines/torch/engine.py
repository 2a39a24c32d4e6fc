"""The torch text engine: takes requests from any thread, runs them all on one."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Tokens
from concurrent.futures import Future
from typing import Any, TypeVar

import torch

from allmend.adapters import AdapterWeights
from allmend.engines.constraint import Constraints
from allmend.engines.detokenise import Detokeniser
from allmend.engines.text import (
    AdapterUse,
    Completion,
    Piece,
    Sampling,
    Scored,
    Sink,
    TextRequest,
    Ticket,
    gather,
    together,
)
from allmend.engines.torch.lora import Lora, LoraHooks, Uses, from_weights
from allmend.engines.torch.native.runner import NativeRunner
from allmend.engines.torch.runner import Memory, PlainRunner, Runner, Segment, route_key
from allmend.engines.torch.sampling import pick_all
from allmend.engines.torch.scheduler import Limits, Scheduler
from allmend.engines.torch.sequence import Sequence
from allmend.errors import DoesNotFit, InputError, NotFound, Unavailable, nearest

T = TypeVar("T")


class TorchTextEngine:
    """A transformers causal language model with adapters by name.

    Args:
        model: the causal language model, in evaluation mode.
        tokenizer: its fast tokeniser.
        runner: the forward pass to use, see `allmend.engines.torch.setup`.
        context: most tokens of prompt and answer together.
        ends: tokens that end an answer.
        limits: how much runs at once.
        vocabulary: how many tokens the model knows; its embeddings' rows by default.

    Attributes:
        steps: how often the engine's thread came to the beginning or the end of a step.
        step_tokens: tokens that the step computes in which it is.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        runner: Runner,
        *,
        context: int,
        ends: frozenset[int],
        limits: Limits | None = None,
        vocabulary: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.ends = ends
        self._runner = runner
        self._context = min(context, runner.capacity) if runner.capacity is not None else context
        self._hooks = LoraHooks(model)
        self._vocabulary = vocabulary or int(model.get_input_embeddings().weight.shape[0])
        self._constraints = Constraints(tokenizer, self._vocabulary, ends)
        self._loras: dict[str, Lora] = {}
        self._scheduler = Scheduler(runner, limits or Limits())
        self._inbox: queue.SimpleQueue[Sequence | Callable[[], None]] = queue.SimpleQueue()
        self.steps = self.step_tokens = 0
        self._work = threading.Event()
        self._closing = False
        self._door = threading.Lock()
        """Held where something is put into the inbox, and where it is closed: nothing is left lying there."""
        self._thread = threading.Thread(target=self._loop, name="allmend-text-engine", daemon=True)
        self._thread.start()

    @property
    def context(self) -> int:
        """Most tokens that prompt and answer may have together."""
        return self._context

    @property
    def memory_tokens(self) -> int | None:
        """Tokens of keys and values that it holds; None where that is not bounded."""
        return self._runner.capacity

    @property
    def has_ended(self) -> bool:
        """Whether it takes nothing any more: it was closed, or its thread ended by a fault of its own."""
        return not self._thread.is_alive()

    def adapters(self) -> tuple[str, ...]:
        """Names that can be used."""
        return tuple(self._loras)

    def add_adapter(self, name: str, weights: object) -> None:
        """Make a `Lora`, or an adapter as it was read, usable under `name`.

        Raises:
            InputError: it does not fit the base.
        """
        if isinstance(weights, AdapterWeights):
            weights = from_weights(weights)
        if not isinstance(weights, Lora):
            raise TypeError(f"the torch engine takes adapters, not {type(weights).__name__}")
        # One that was laid out here before was checked then.
        ready = weights if weights.prepared else self._hooks.check(name, weights)
        if isinstance(self._runner, NativeRunner):
            self._runner.prepare(((ready, 1.0),))
        else:
            # Hooks change the model, so they are put on between two steps.
            self._between_steps(lambda: self._hooks.cover(ready))
        self._loras[name] = ready

    def load(self) -> tuple[int, int]:
        """(answers being generated, answers that wait)."""
        return len(self._scheduler.running), len(self._scheduler.waiting) + self._inbox.qsize()

    def remove_adapter(self, name: str) -> Lora:
        """Forget an adapter; requests that use it run to their end. `add_adapter` takes it again as it is returned."""
        lora = self._use(name)
        del self._loras[name]
        return lora

    def submit(self, request: TextRequest, sink: Sink) -> Ticket:
        """Take a request; its pieces go to `sink` on the engine's thread."""
        if self._closing:
            raise Unavailable("the engine is closed")
        length = len(request.prompt)
        if length == 0:
            raise DoesNotFit("the prompt has no tokens")
        wanted = request.sampling.max_tokens
        room = self._context - length
        if room < (0 if wanted == 0 else 1):
            raise DoesNotFit(f"the prompt has {length} tokens; the context holds {self._context}")
        named = (*request.prompt, *request.sampling.logit_bias)
        if min(named) < 0 or max(named) >= self._vocabulary:
            # One such id would fail the whole step, everybody else's answers with it.
            raise InputError(f"there is a token id outside 0 to {self._vocabulary - 1}")
        uses: Uses = tuple((self._use(use.name), use.scale) for use in request.adapters if use.scale != 0)
        sequence = Sequence(
            request,
            sink,
            Memory(uses),
            limit=room if wanted is None else min(wanted, room),
            ends=self.ends,
            detokeniser=Detokeniser(self.tokenizer, before=request.prompt[-8:] if request.sampling.goes_on else ()),
            wake=self._work.set,
            constraint=self._constraints(request.sampling.grammar) if request.sampling.grammar else None,
        )
        self._take(sequence)
        return sequence

    def generate(self, requests: Tokens[TextRequest]) -> Iterator[tuple[int, Piece]]:
        """Run requests together; (index of the request, piece) as they come. Closing it cancels the rest."""
        return together(self.submit, requests)

    def complete(self, requests: Tokens[TextRequest]) -> list[Completion]:
        """Run requests together and return whole answers, in order."""
        return gather(len(requests), self.generate(requests))

    def score(
        self, prompt: Tokens[int], completions: Tokens[Tokens[int]], adapters: tuple[AdapterUse, ...] = ()
    ) -> list[Scored]:
        """How likely each completion is right after `prompt`, which must not be empty."""
        sampling = Sampling(max_tokens=0, logprobs=0, prompt_logprobs=len(prompt))
        requests = [TextRequest((*prompt, *tokens), sampling, adapters) for tokens in completions]
        scored = []
        for answer in self.complete(requests):
            if answer.finish == "error":
                raise Unavailable(answer.error or "the engine failed")
            tokens = tuple(token.logprob or 0.0 for token in answer.prompt_tokens)
            scored.append(Scored(sum(tokens), tokens))
        return scored

    def close(self) -> None:
        """Stop; what still runs ends as `cancelled`. The model is left without hooks."""
        with self._door:
            first, self._closing = not self._closing, True
        if first:
            self._work.set()
            self._thread.join()
            self._hooks.remove()

    def _use(self, name: str) -> Lora:
        try:
            return self._loras[name]
        except KeyError:
            raise NotFound(f"there is no adapter {name!r}", hint=nearest(name, self._loras) or None) from None

    def _between_steps(self, action: Callable[[], T]) -> T:
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(action())
            except BaseException as error:
                answer.set_exception(error)

        self._take(run)
        return answer.result()

    def _take(self, item: Sequence | Callable[[], None]) -> None:
        """Give something to the engine's thread; raises `Unavailable` where that ends."""
        with self._door:
            if self._closing:
                raise Unavailable("the engine is closed")
            self._inbox.put(item)
        self._work.set()

    @torch.inference_mode()
    def _loop(self) -> None:
        try:
            while not self._closing:
                self._work.clear()
                self.steps += 1
                self._take_in()
                planned = self._scheduler.plan()
                if planned:
                    self._step(planned)
                elif not self._scheduler.running and not self._scheduler.waiting:
                    self._work.wait()
        finally:
            # Also after a bug of our own: nobody is left waiting for an answer that will not come.
            with self._door:
                self._closing = True
            self._end_all()

    def _end_all(self) -> None:
        self._take_in()
        for sequence in [*self._scheduler.running, *self._scheduler.waiting]:
            sequence.cancel()
        self._scheduler.sweep()

    def _take_in(self) -> None:
        while True:
            try:
                item = self._inbox.get_nowait()
            except queue.Empty:
                return
            if isinstance(item, Sequence):
                item.begin()
                if not item.finished:
                    self._scheduler.add(item)
            else:
                item()

    def _step(self, planned: list[tuple[Sequence, Segment]]) -> None:
        # What runs one by one anyway cannot be run again: its caches have grown.
        alone = isinstance(self._runner, PlainRunner)
        for part in [[each] for each in planned] if alone else [planned]:
            self.steps += 1
            self.step_tokens = sum(len(segment.tokens) for _, segment in part)
            try:
                results = self._runner.run([segment for _, segment in part])
            except Exception as error:
                _check_device(error)
                self._step_apart(part, error)
            else:
                self._advance_or_end(part, results)
        self.step_tokens = 0

    def _step_apart(self, planned: list[tuple[Sequence, Segment]], error: Exception) -> None:
        """Run a step that failed again by adapters: one that does not suit the model ends its own requests alone.

        Nothing has been told yet, and keys and values are written once more to the same places.
        """
        parts: dict[object, list[tuple[Sequence, Segment]]] = {}
        for each in planned:
            parts.setdefault(route_key(each[1].memory.uses), []).append(each)
        if len(parts) == 1:
            _end(planned, error)
            return
        for part in parts.values():
            self.steps += 1
            self.step_tokens = sum(len(segment.tokens) for _, segment in part)
            try:
                results = self._runner.run([segment for _, segment in part])
            except Exception as failure:
                _check_device(failure)
                _end(part, failure)
            else:
                self._advance_or_end(part, results)

    def _advance_or_end(self, planned: list[tuple[Sequence, Segment]], results: list[torch.Tensor]) -> None:
        try:
            self._advance(planned, results)
        except Exception as error:
            _check_device(error)
            _end(planned, error)

    def _advance(self, planned: list[tuple[Sequence, Segment]], results: list[torch.Tensor]) -> None:
        ready: list[tuple[Sequence, torch.Tensor, tuple[int, float] | None]] = []
        best = self._runner.best
        for place, ((sequence, segment), logits) in enumerate(zip(planned, results, strict=True)):
            sequence.computed = segment.start + len(segment.tokens)
            self._runner.note(sequence.memory, sequence.tokens, sequence.computed)
            if sequence.scores_prompt and len(logits):
                sequence.score_prompt(sequence.computed - len(logits), logits)
            if sequence.computed < len(sequence.tokens):
                continue
            if sequence.generated == 0:
                sequence.prompt_done()
            if not sequence.finished:
                ready.append((sequence, logits[-1], best[place] if best else None))
        if not ready:
            return
        if best is None:
            rows = torch.stack([logits for _, logits, _ in ready])
            highest = rows.max(dim=-1)
            tops = list(zip(highest.indices.tolist(), highest.values.tolist(), strict=True))
        else:
            tops = [top for _, _, top in ready if top is not None]
        sound = [math.isfinite(value) for _, value in tops]
        asked = [place for place, (sequence, _, _) in enumerate(ready) if sound[place] and not sequence.sampler.greedy]
        drawn = pick_all([ready[place][0].sampler for place in asked], [ready[place][1] for place in asked])
        picked = dict(zip(asked, drawn, strict=True))
        for place, (sequence, logits, _) in enumerate(ready):
            if not sound[place]:
                sequence.finish("error", error="the model's numbers are not finite")
                continue
            sequence.accept(picked.get(place, tops[place][0]), logits)


def _check_device(error: Exception) -> None:
    """Raise an error after which a device does nothing more for this process; the engine ends with it.

    Memory that was not there is no such error.
    """
    words = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in words or "ALLOC_FAILED" in words:
        return
    of_device = getattr(torch, "AcceleratorError", None)  # Not every torch that we run with has it.
    if (of_device and isinstance(error, of_device)) or (isinstance(error, RuntimeError) and "CUDA error" in words):
        raise error


def _end(planned: list[tuple[Sequence, Segment]], error: Exception) -> None:
    """Tell those who were in a step that failed, and nobody else; the engine goes on."""
    for sequence, _ in planned:
        sequence.finish("error", error=f"the model failed: {type(error).__name__}: {error}")
