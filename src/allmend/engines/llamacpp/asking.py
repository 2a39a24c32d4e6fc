"""One request as llama.cpp's server takes it, and what it sends as pieces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from allmend.engines import constraint
from allmend.engines.detokenise import StopStrings
from allmend.engines.text import Finish, Piece, Sink, TextRequest, TokenInfo, Usage


def body(request: TextRequest, context: int, order: list[Path], files: dict[str, Path]) -> dict[str, Any]:
    """The JSON that llama.cpp's server is asked with.

    Args:
        context: tokens that prompt and answer may have together.
        order: files of adapters as the server was started with them.
        files: the request's own, by name.
    """
    sampling = request.sampling
    scales = dict.fromkeys(order, 0.0)
    for use in request.adapters:
        scales[files[use.name]] = use.scale
    room = context - len(request.prompt)
    asked: dict[str, Any] = {
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
        asked["lora"] = [{"id": place, "scale": scales[file]} for place, file in enumerate(order)]
    if sampling.grammar is not None:
        asked["grammar"] = "%llguidance {}\n" + constraint.as_lark(sampling.grammar)
    return asked


class LlamaCppTicket:
    """A request that was taken."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        """End it soon."""
        self.cancelled = True


class Answer:
    """Turns the server's chunks into pieces."""

    def __init__(self, request: TextRequest, sink: Sink, ticket: LlamaCppTicket, closing: Callable[[], bool]) -> None:
        self._request, self._sink, self._ticket, self._closing = request, sink, ticket, closing
        self._stops = StopStrings(request.sampling.stop)
        self._drop_space = request.sampling.drop_space
        self._count = self._written = 0
        self._finish: Finish | None = None
        self._failed: str | None = None
        self._cached = 0

    def take(self, chunk: Any) -> bool:
        """One chunk; true ends the request. It raises nothing: xllamacpp drops what its callback raises."""
        try:
            return self._take(chunk)
        except Exception as error:
            self._failed = f"the model failed: {type(error).__name__}: {error}"[:300]
            return True

    def _take(self, chunk: Any) -> bool:
        if self._ticket.cancelled or self._closing():
            self._finish = "cancelled"
            return True
        if not isinstance(chunk, dict) or "error" in chunk:
            why = chunk.get("error") if isinstance(chunk, dict) else chunk
            words = why.get("message", why) if isinstance(why, dict) else why
            self._failed = f"the model failed: {words}"[:300]
            return True
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
        error = error or self._failed
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
