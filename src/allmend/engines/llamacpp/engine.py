"""The llama.cpp text engine.

llama.cpp's server keeps what it computed for a slot and takes it for the next request that begins alike, whatever
adapter either has. Here nothing is kept once an adapter is known: every prompt is computed for the adapter it is
asked with. Its adapters are named when it starts, so another adapter starts it anew, once what runs has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from collections.abc import Sequence as Tokens
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from allmend.adapters import AdapterWeights
from allmend.engines.llamacpp.adapter_files import AdapterFiles
from allmend.engines.llamacpp.asking import Answer, LlamaCppTicket, body
from allmend.engines.llamacpp.server import Server
from allmend.engines.text import (
    AdapterUse,
    Completion,
    Piece,
    Scored,
    Sink,
    TextRequest,
    Ticket,
    gather,
    together,
)
from allmend.errors import DoesNotFit, InputError, Unavailable, UsageError


class LlamaCppEngine:
    """A GGUF file with adapters by name.

    Args:
        path: the file.
        context: most tokens of a prompt and its answer.
        parallel: answers generated at once.
        threads: for computing.
        vocabulary: how many tokens the model knows.
    """

    def __init__(self, path: Path, *, context: int, parallel: int, threads: int, vocabulary: int) -> None:
        try:
            import xllamacpp
        except ImportError:
            raise Unavailable("the llamacpp engine needs xllamacpp", hint="pip install 'allmend[llamacpp]'") from None
        self._context, self._vocabulary = context, vocabulary
        self._files = AdapterFiles(path)
        self._server = Server(xllamacpp, path, self._files, context=context, parallel=parallel, threads=threads)
        self._taken = 0
        self._closing = False
        self._door = threading.Lock()
        """Held for moments only: the event loop takes it."""
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="allmend-llamacpp")

    @property
    def context(self) -> int:
        """Most tokens that prompt and answer may have together."""
        return self._context

    def adapters(self) -> tuple[str, ...]:
        """Names that can be used."""
        return tuple(self._files.by_name)

    def add_adapter(self, name: str, weights: object) -> None:
        """Make an adapter usable; raises `InputError` where llama.cpp cannot apply it."""
        if not isinstance(weights, AdapterWeights):
            raise TypeError(f"the llamacpp engine takes adapters as read, not {type(weights).__name__}")
        with self._server.change:
            self._files.put(name, weights)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; requests that use it run to their end."""
        with self._server.change:
            self._files.remove(name)

    def load(self) -> tuple[int, int]:
        """(answers being generated, answers that wait)."""
        active = self._server.active
        return active, max(self._taken - active, 0)

    def submit(self, request: TextRequest, sink: Sink) -> Ticket:
        """Take a request; its pieces go to `sink` on a thread of the engine."""
        if self._closing:
            raise Unavailable("the engine is closed")
        length, sampling = len(request.prompt), request.sampling
        if length == 0:
            raise DoesNotFit("the prompt has no tokens")
        if self._context - length < 1:
            raise DoesNotFit(f"the prompt has {length} tokens; the context holds {self._context}")
        if min(request.prompt) < 0 or max((*request.prompt, *sampling.logit_bias)) >= self._vocabulary:
            raise InputError(f"there is a token id outside 0 to {self._vocabulary - 1}")
        if sampling.prompt_logprobs is not None:
            raise UsageError("the llamacpp engine does not score prompts", hint="Serve with --engine torch.")
        if sampling.max_tokens == 0:
            raise UsageError("the llamacpp engine generates one token at least")
        ticket = LlamaCppTicket()
        with self._door:
            if self._closing:
                raise Unavailable("the engine is closed")
            files = self._files.take(use.name for use in request.adapters)
            self._taken += 1
            self._pool.submit(self._run, request, sink, ticket, files)
        return ticket

    def generate(self, requests: Tokens[TextRequest]) -> Iterator[tuple[int, Piece]]:
        """Run requests together; (index of the request, piece) as they come. Closing it cancels the rest."""
        return together(self.submit, requests)

    def complete(self, requests: Tokens[TextRequest]) -> list[Completion]:
        """Run requests together and return whole answers, in order."""
        return gather(len(requests), self.generate(requests))

    def score(
        self, prompt: Tokens[int], completions: Tokens[Tokens[int]], adapters: tuple[AdapterUse, ...] = ()
    ) -> list[Scored]:
        """Not offered by llama.cpp's server."""
        raise UsageError("the llamacpp engine does not score prompts", hint="Serve with --engine torch.")

    def close(self) -> None:
        """Stop; what still runs ends as `cancelled`."""
        with self._door:
            self._closing = True
        self._pool.shutdown(wait=True)
        self._server.close()
        self._files.close()

    def _run(self, request: TextRequest, sink: Sink, ticket: LlamaCppTicket, files: dict[str, Path]) -> None:
        answer = Answer(request, sink, ticket, lambda: self._closing)
        failure = None
        try:
            server, order = self._server.enter(files)
            try:
                server.handle_completions(body(request, self._context, order, files), answer.take)
            finally:
                self._server.leave()
        except Exception as error:
            words = (str(error).splitlines() or [""])[0][:300]
            failure = f"the model failed: {type(error).__name__}: {words}"
        with self._server.change:
            self._files.give_back(files)
        with self._door:
            self._taken -= 1
        answer.end(failure)
