"""The llama.cpp text engine.

llama.cpp's server keeps what it computed for a slot and takes it for the next request that begins alike, whatever
adapter either has. Here nothing is kept once an adapter is known: every prompt is computed for the adapter it is
asked with. Its adapters are named when it starts, so another adapter starts it anew, once what runs has ended.
"""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as Tokens
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from allmend.adapters import AdapterWeights
from allmend.engines import constraint
from allmend.engines.detokenise import StopStrings
from allmend.engines.llamacpp import lora_file
from allmend.engines.text import (
    AdapterUse,
    Completion,
    Finish,
    Piece,
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
        self._library: Any = xllamacpp
        self._path, self._context, self._parallel, self._threads = path, context, parallel, threads
        self._vocabulary = vocabulary
        self._about = lora_file.about_model(path)
        self._folder = tempfile.TemporaryDirectory(prefix="allmend-lora-")
        self._files: dict[str, Path] = {}
        self._users: Counter[Path] = Counter()
        """Requests that were taken and need a file."""
        self._sound: set[Path] = set()
        self._refused: dict[Path, str] = {}
        """Files that llama.cpp did not load, with what it said."""
        self._restarts = 0
        """Requests that wait for a start with their adapters."""
        self._made = 0
        self._change = threading.Condition()
        self._active = 0
        self._taken = 0
        self._server: Any = None
        self._order: list[Path] = []
        self._closing = False
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="allmend-llamacpp")

    @property
    def context(self) -> int:
        """Most tokens that prompt and answer may have together."""
        return self._context

    def adapters(self) -> tuple[str, ...]:
        """Names that can be used."""
        return tuple(self._files)

    def add_adapter(self, name: str, weights: object) -> None:
        """Make an adapter usable; raises `InputError` where llama.cpp cannot apply it."""
        if not isinstance(weights, AdapterWeights):
            raise TypeError(f"the llamacpp engine takes adapters as read, not {type(weights).__name__}")
        with self._change:
            self._made += 1
            target = Path(self._folder.name) / f"{self._made}.gguf"
            lora_file.write(weights, self._about, target)
            before = self._files.get(name)
            self._files[name] = target
            self._clear(before)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; requests that use it run to their end."""
        with self._change:
            self._known(name)
            self._clear(self._files.pop(name))

    def load(self) -> tuple[int, int]:
        """(answers being generated, answers that wait)."""
        return self._active, max(self._taken - self._active, 0)

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
        with self._change:
            for use in request.adapters:
                self._known(use.name)
            # The file is kept until then: an adapter that is taken out serves those who asked before.
            files = {use.name: self._files[use.name] for use in request.adapters}
            self._users.update(files.values())
            self._taken += 1
        ticket = _Ticket()
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
        self._closing = True
        self._pool.shutdown(wait=True)
        self._server = None
        self._folder.cleanup()

    def _known(self, name: str) -> None:
        if name not in self._files:
            raise NotFound(f"there is no adapter {name!r}", hint=nearest(name, self._files) or None)

    def _run(self, request: TextRequest, sink: Sink, ticket: _Ticket, files: dict[str, Path]) -> None:
        answer = _Answer(request, sink, ticket, lambda: self._closing)
        failure = None
        try:
            server, order = self._enter(files)
            try:
                server.handle_completions(self._body(request, order, files), answer.take)
            finally:
                self._leave()
        except Exception as error:
            words = (str(error).splitlines() or [""])[0][:300]
            failure = f"the model failed: {type(error).__name__}: {words}"
        with self._change:
            self._taken -= 1
            self._users.subtract(files.values())
            for file in files.values():
                self._clear(file)
        answer.end(failure)

    def _enter(self, files: dict[str, Path]) -> tuple[Any, list[Path]]:
        """The server with these adapters; starts it anew, when nothing runs, where it has not all of them.

        As long as somebody waits for that nobody else comes in, or those who need no other adapters could keep
        it from ever happening.
        """
        waits = False
        with self._change:
            try:
                while True:
                    for name, file in files.items():
                        if file in self._refused:
                            raise InputError(f"llama.cpp does not load the adapter {name!r}: {self._refused[file]}")
                    fits = self._server is not None and set(files.values()) <= set(self._order)
                    if fits and (waits or not self._restarts):
                        self._active += 1
                        return self._server, self._order
                    if not fits and not waits:
                        waits, self._restarts = True, self._restarts + 1
                    if not fits and self._active == 0:
                        self._start([*self._files.values(), *files.values()])
                    else:
                        self._change.wait()
            finally:
                self._restarts -= waits
                self._change.notify_all()

    def _leave(self) -> None:
        with self._change:
            self._active -= 1
            self._change.notify_all()

    def _clear(self, file: Path | None) -> None:
        """Delete an adapter's file that has no name and no user any more; a server that runs has read it."""
        if file is not None and not self._users[file] and file not in self._files.values():
            file.unlink(missing_ok=True)
            self._refused.pop(file, None)
            self._sound.discard(file)
            del self._users[file]

    def _start(self, files: list[Path]) -> None:
        """Start with these adapters; one that llama.cpp refuses is left out, and told to those who ask for it."""
        unique = [file for file in dict.fromkeys(files) if file not in self._refused]
        good = [file for file in unique if file in self._sound]
        try:
            self._start_with(unique)
            self._sound.update(unique)
            return
        except Exception:
            if good == unique:
                raise  # It is not for an adapter.
        refused = {}
        for file in unique:
            if file in self._sound:
                continue
            try:
                self._start_with([*good, file])
            except Exception as error:
                refused[file] = (str(error).splitlines() or [type(error).__name__])[0][:200]
            else:
                good.append(file)
                self._sound.add(file)
                # A server that is ended before its loop has begun waits for ever; after an answer it has begun.
                self._server.handle_completions({"prompt": [0], "max_tokens": 1}, lambda chunk: False)
        if self._server is None:
            self._start_with(good)  # When the base alone fails too, it was for no adapter.
        self._refused |= refused

    def _start_with(self, files: list[Path]) -> None:
        self._server = None
        params = self._library.CommonParams()
        params.model.path = str(self._path)
        params.n_ctx, params.n_parallel, params.kv_unified = self._context * self._parallel, self._parallel, True
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
        params.warmup, params.verbosity, params.cache_ram_mib = False, -1, 0
        params.lora_init_without_apply = True
        adapters = []
        for file in files:
            adapter = self._library.CommonAdapterLoraInfo()
            adapter.path, adapter.scale = str(file), 0.0
            adapters.append(adapter)
        params.lora_adapters = adapters
        self._server, self._order = self._library.Server(params), list(files)

    def _body(self, request: TextRequest, order: list[Path], files: dict[str, Path]) -> dict[str, Any]:
        sampling = request.sampling
        scales = dict.fromkeys(order, 0.0)
        for use in request.adapters:
            scales[files[use.name]] = use.scale
        room = self._context - len(request.prompt)
        body: dict[str, Any] = {
            "prompt": list(request.prompt),
            "max_tokens": room if sampling.max_tokens is None else min(sampling.max_tokens, room),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": 0.0,
            "repeat_penalty": 1.0,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "seed": -1 if sampling.seed is None else sampling.seed % 2**32,
            "ignore_eos": sampling.ignore_end,
            "logit_bias": [[token, bias] for token, bias in sampling.logit_bias.items()],
            "n_probs": max(sampling.logprobs or 0, 1),
            "stream": True,
            "stream_options": {"include_usage": True},
            # What a slot holds was computed with the adapter of whoever had it before.
            "cache_prompt": not order,
        }
        if order:
            body["lora"] = [{"id": place, "scale": scales[file]} for place, file in enumerate(order)]
        if sampling.grammar is not None:
            body["grammar"] = "%llguidance {}\n" + constraint.as_lark(sampling.grammar)
        return body


class _Ticket:
    """A request that was taken."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        """End it soon."""
        self.cancelled = True


class _Answer:
    """Turns the server's chunks into pieces."""

    def __init__(self, request: TextRequest, sink: Sink, ticket: _Ticket, closing: Any) -> None:
        self._request, self._sink, self._ticket, self._closing = request, sink, ticket, closing
        self._stops = StopStrings(request.sampling.stop)
        self._drop_space = request.sampling.drop_space
        self._count = self._written = 0
        self._finish: Finish | None = None
        self._cached = 0

    def take(self, chunk: Any) -> bool:
        """One chunk; true ends the request."""
        if self._ticket.cancelled or self._closing():
            self._finish = "cancelled"
            return True
        if not isinstance(chunk, dict) or "error" in chunk:
            raise RuntimeError(str(chunk.get("error") if isinstance(chunk, dict) else chunk)[:300])
        usage = chunk.get("usage") or {}
        self._cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", self._cached)
        for choice in chunk.get("choices", ()):
            text, tokens = choice.get("text") or "", self._tokens(choice)
            if self._drop_space and text:
                text, self._drop_space = text.removeprefix(" "), False
            self._count += len(tokens)
            self._written += len(text)
            safe, stopped = self._stops.feed(text)
            ended = any(token.id in self._request.sampling.stop_tokens for token in tokens)
            if safe or (tokens and not ended):
                self._sink(Piece(safe, () if ended else tuple(tokens)))
            if stopped or ended:
                self._finish = "stop"
                return True
            if choice.get("finish_reason"):
                self._finish = "length" if choice["finish_reason"] == "length" else "stop"
        return False

    def end(self, error: str | None = None) -> None:
        """The last piece."""
        finish: Finish = "error" if error else self._finish or "stop"
        held = self._stops.flush() if finish in ("stop", "length") else ""
        usage = Usage(len(self._request.prompt), self._count, self._cached)
        self._sink(Piece(held, finish=finish, usage=usage, error=error))

    def _tokens(self, choice: dict[str, Any]) -> list[TokenInfo]:
        asked = self._request.sampling.logprobs
        found = []
        for each in (choice.get("logprobs") or {}).get("content") or ():
            top = [(int(one["id"]), float(one["logprob"])) for one in each.get("top_logprobs", ())][: asked or 0]
            logprob = None if asked is None else float(each["logprob"])
            found.append(TokenInfo(int(each["id"]), logprob, tuple(top), self._written))
        return found
