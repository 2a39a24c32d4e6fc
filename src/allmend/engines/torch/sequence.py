"""One request on its way: its tokens, what of them is computed, and what of its answer has been told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import torch

from allmend.engines.constraint import Constraint
from allmend.engines.detokenise import Detokeniser, StopStrings
from allmend.engines.text import Finish, Piece, Sink, TextRequest, TokenInfo, Usage
from allmend.engines.torch.runner import Memory
from allmend.engines.torch.sampling import Sampler, token_info


class Sequence:
    """A request from submission to its last piece. Only the engine's thread calls anything but `cancel`."""

    def __init__(
        self,
        request: TextRequest,
        sink: Sink,
        memory: Memory,
        *,
        limit: int,
        ends: frozenset[int],
        detokeniser: Detokeniser,
        wake: Callable[[], None],
        constraint: Constraint | None = None,
    ) -> None:
        sampling = request.sampling
        self.tokens = list(request.prompt)
        self.prompt_length = len(request.prompt)
        self.computed = 0
        self.memory = memory
        self.finished = False
        self.sampler = Sampler(sampling, constraint)
        self._sampling = sampling
        self._sink = sink
        self._limit = limit
        self._ends = (frozenset() if sampling.ignore_end else ends) | sampling.stop_tokens
        self._text = detokeniser
        self._stops = StopStrings(sampling.stop)
        self._drop_space = sampling.drop_space
        self._pending: list[TokenInfo] = []
        self._written = 0
        self._told = 0
        self._prompt_tokens: list[TokenInfo] = []
        self._cached: int | None = None
        self._cancelled = threading.Event()
        self._wake = wake

    def cancel(self) -> None:
        """End the request soon; any thread."""
        self._cancelled.set()
        self._wake()

    @property
    def cancelled(self) -> bool:
        """Whether the caller has gone."""
        return self._cancelled.is_set()

    @property
    def scores_prompt(self) -> bool:
        """Whether the prompt's own tokens are to be reported."""
        return self._sampling.prompt_logprobs is not None

    @property
    def best_only(self) -> bool:
        """Whether nothing but the best token is asked for."""
        return self.sampler.greedy and self._sampling.logprobs is None and not self.scores_prompt

    @property
    def generated(self) -> int:
        """Tokens generated so far."""
        return len(self.tokens) - self.prompt_length

    @property
    def reusable(self) -> int:
        """How many of the first tokens may come from memory: all but those whose logits are needed."""
        last = len(self.tokens) - 1
        first = self._sampling.prompt_logprobs
        return last if first is None or self._prompt_told else min(max(first - 1, 0), last)

    def recalled(self, count: int) -> None:
        """Note that this many tokens came from memory; the first time counts."""
        if self._cached is None:
            self._cached = min(count, self.prompt_length)

    def begin(self) -> None:
        """Settle what needs no computing: a prompt with nothing to score and nothing to generate."""
        if self._limit <= 0 and not self.scores_prompt:
            self.finish("length")

    def rows_wanted(self, start: int, count: int) -> int:
        """Of how many of the last of these tokens logits are needed."""
        end = start + count
        if self._sampling.prompt_logprobs is not None and start < self.prompt_length and not self._prompt_told:
            # The logits at place p tell of the token at p + 1.
            first = max(self._sampling.prompt_logprobs - 1, start, 0)
            return max(end - first, 0) or (1 if end == len(self.tokens) else 0)
        return 1 if end == len(self.tokens) else 0

    @property
    def _prompt_told(self) -> bool:
        return self.generated > 0 or self.finished

    def rewind(self) -> None:
        """Forget what is computed: the sequence gave its memory up and starts over, with the tokens it has."""
        self.computed = 0
        self._prompt_tokens = []

    def score_prompt(self, start: int, logits: torch.Tensor) -> None:
        """Note the prompt's tokens from logits [rows, vocabulary] whose first row is of place `start`."""
        first = self._sampling.prompt_logprobs
        if first is None or self._prompt_told:
            return
        if first == 0 and not self._prompt_tokens:
            self._prompt_tokens.append(TokenInfo(self.tokens[0], None))
        for row, place in enumerate(range(start, start + len(logits))):
            if place + 1 < self.prompt_length and place + 1 >= first:
                self._prompt_tokens.append(
                    token_info(logits[row], self.tokens[place + 1], self._sampling.logprobs or 0)
                )

    def prompt_done(self) -> None:
        """The prompt is computed: report it, and end here where nothing is to be generated."""
        if self._prompt_tokens:
            self._sink(Piece(prompt_tokens=tuple(self._prompt_tokens)))
            self._prompt_tokens = []
        if self._limit <= 0:
            self.finish("length")

    def accept(self, token: int, logits: torch.Tensor) -> None:
        """Take the next token, whose float32 logits were [vocabulary]; tells what became whole, and may end."""
        self.tokens.append(token)
        if token in self._ends:
            self.finish("stop")
            return
        info = TokenInfo(token, None)
        if self._sampling.logprobs is not None:
            info = token_info(logits, token, self._sampling.logprobs)
        self._pending.append(replace(info, offset=self._written))
        added = self._text.feed(token)
        if self._drop_space and added:
            added = added.removeprefix(" ")
            self._drop_space = False
        self._written += len(added)
        safe, stopped = self._stops.feed(added)
        constraint = self.sampler.constraint
        if constraint is not None and constraint.failure:
            self.finish("error", error=f"the grammar was not followed: {constraint.failure[:300]}")
        elif constraint is not None and constraint.ended and not stopped:
            self.finish("stop", safe)
        elif stopped:
            self._tell(safe, cut=True)
            self._end("stop")
        elif self.generated >= self._limit:
            self.finish("length", safe)
        elif safe:
            self._tell(safe)

    def finish(self, reason: Finish, text: str = "", error: str | None = None) -> None:
        """Tell what was held back, and end."""
        if self.finished:
            return
        if reason in ("stop", "length"):
            safe, stopped = self._stops.feed(self._text.flush())
            text += safe
            if stopped:
                reason = "stop"
            else:
                text += self._stops.flush()
            self._tell(text, cut=stopped)
        self._end(reason, error)

    def _tell(self, text: str, *, cut: bool = False) -> None:
        self._told += len(text)
        tokens = self._pending
        if cut:
            tokens = [token for token in tokens if token.offset < self._told]
        self._pending = []
        if text or tokens:
            self._sink(Piece(text, tuple(tokens)))

    def _end(self, reason: Finish, error: str | None = None) -> None:
        self.finished = True
        self._sink(
            Piece(finish=reason, usage=Usage(self.prompt_length, self.generated, self._cached or 0), error=error)
        )
