"""The protocol of text engines: what is asked of a language model, and how the answer comes back.

An engine holds one base model in memory and any number of adapters by name. Requests are token ids, answers
are text in pieces, with the tokens behind them. Everything here is plain values, so that a server, a verdict
and a terminal speak to every engine alike, and no tensor library is imported.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from allmend.errors import Unavailable

Finish = Literal["stop", "length", "cancelled", "error", "lost", "absent"]
"""Why a request ended: its own end or a stop string; `max_tokens` or the context; its caller; a failure; the end of the
process that computed it, which starts again; that process not being there, so that it was never begun."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is picked. The defaults are those of the OpenAI API.

    The order is: repetition penalties and `logit_bias` on the logits, then `temperature`, then `top_k`, then
    `top_p`. Log-probabilities that are reported are the model's own, before any of that.
    """

    max_tokens: int | None = None
    """Most tokens to generate; `None` is as many as the context has room for."""
    temperature: float = 1.0
    """0 picks the best token always."""
    top_p: float = 1.0
    """Keep the smallest set of tokens whose probability is at least this."""
    top_k: int = 0
    """Keep this many best tokens; 0 keeps all."""
    seed: int | None = None
    """Same seed, same request, same answer."""
    stop: tuple[str, ...] = ()
    """Text that ends the answer and is not part of it."""
    stop_tokens: frozenset[int] = frozenset()
    """Tokens that end the answer, beside the model's own."""
    drop_space: bool = False
    """Leave out a space that the answer begins with: for templates that ask without a trailing space."""
    goes_on: bool = False
    """The answer goes on in the middle of the prompt's text: a space that it begins with is kept by tokenisers too
    that take the first one off a text."""
    ignore_end: bool = False
    """Go on through the model's end tokens (for measuring)."""
    presence_penalty: float = 0.0
    """Taken from the logit of every token generated so far."""
    frequency_penalty: float = 0.0
    """Taken from a token's logit as often as it was generated so far."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these tokens."""
    logprobs: int | None = None
    """`None`: not reported. 0: of the picked token. k: of the k best as well."""
    grammar: str | None = None
    """What the answer must follow, as `allmend.engines.constraint` makes it."""
    prompt_logprobs: int | None = None
    """Report the prompt's own tokens too, from this place on; 0: all of them."""


@dataclass(frozen=True, slots=True)
class AdapterUse:
    """An adapter by the name it was added under, and how strongly it acts."""

    name: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A prompt in token ids, with what to apply to it."""

    prompt: tuple[int, ...]
    sampling: Sampling = Sampling()
    adapters: tuple[AdapterUse, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """One token with its log-probability (natural logarithm)."""

    id: int
    logprob: float | None
    """`None` for the first token of a prompt, which nothing comes before, and where none was asked for."""
    top: tuple[tuple[int, float], ...] = ()
    """(token, log-probability) of the best tokens at this place, best first."""
    offset: int = 0
    """Where its text begins, in characters from the start of the answer."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted."""

    prompt: int
    completion: int
    cached: int = 0
    """Prompt tokens that were not computed again."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer: whole characters only. The last piece has `finish` and `usage`."""

    text: str = ""
    tokens: tuple[TokenInfo, ...] = ()
    prompt_tokens: tuple[TokenInfo, ...] = ()
    """The prompt's tokens, in one piece before the answer, where `prompt_logprobs` was asked for."""
    finish: Finish | None = None
    usage: Usage | None = None
    error: str | None = None
    """What went wrong, when `finish` is `error`."""


Sink = Callable[[Piece], None]
"""Takes pieces as they come, on the engine's own thread: hand them on at once."""


class Restarting(Unavailable):
    """What computes is not there now, and comes back.

    Attributes:
        retry_after: seconds after which it is worth asking again; None where it is not.
    """

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Ticket(Protocol):
    """A request that an engine has taken."""

    def cancel(self) -> None:
        """End it soon; what it held is freed. Any thread may call this, at any time."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer."""

    text: str
    tokens: tuple[TokenInfo, ...]
    finish: Finish
    usage: Usage
    prompt_tokens: tuple[TokenInfo, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """How likely a continuation is after a prompt."""

    logprob: float
    """Sum over its tokens (natural logarithm)."""
    tokens: tuple[float, ...]
    """Of each token."""


class TextEngine(Protocol):
    """One base model in memory, adapters by name, many requests at once."""

    @property
    def context(self) -> int:
        """Most tokens that prompt and answer may have together."""

    def add_adapter(self, name: str, weights: object) -> None:
        """Make an adapter usable; raises `InputError` where it does not fit the base."""

    def remove_adapter(self, name: str) -> object | None:
        """Forget an adapter; requests that use it run to their end.

        What is returned, if anything, `add_adapter` takes in place of weights read anew; its `nbytes` is what it holds.
        """

    def adapters(self) -> tuple[str, ...]:
        """Names that can be used."""

    def load(self) -> tuple[int, int]:
        """(answers being generated, answers that wait)."""

    def submit(self, request: TextRequest, sink: Sink) -> Ticket:
        """Take a request; its pieces go to `sink`. Raises `DoesNotFit` or `NotFound` before anything runs."""

    def generate(self, requests: Sequence[TextRequest]) -> Iterator[tuple[int, Piece]]:
        """Run requests together; (index of the request, piece) as they come. Closing it cancels the rest."""

    def complete(self, requests: Sequence[TextRequest]) -> list[Completion]:
        """Run requests together and return whole answers, in order."""

    def score(
        self, prompt: Sequence[int], completions: Sequence[Sequence[int]], adapters: tuple[AdapterUse, ...] = ()
    ) -> list[Scored]:
        """How likely each completion is right after `prompt`."""

    def close(self) -> None:
        """Stop; what still runs ends as `cancelled`."""


def together(
    submit: Callable[[TextRequest, Sink], Ticket], requests: Sequence[TextRequest]
) -> Iterator[tuple[int, Piece]]:
    """Submit requests and give (index of the request, piece) as they come; closing it cancels the rest."""
    pieces: queue.SimpleQueue[tuple[int, Piece]] = queue.SimpleQueue()
    tickets = [
        submit(request, lambda piece, index=index: pieces.put((index, piece)))  # type: ignore[misc]
        for index, request in enumerate(requests)
    ]
    left = len(tickets)
    try:
        while left:
            index, piece = pieces.get()
            left -= piece.finish is not None
            yield index, piece
    finally:
        for ticket in tickets:
            ticket.cancel()


def gather(count: int, pieces: Iterator[tuple[int, Piece]]) -> list[Completion]:
    """Put the pieces of `count` requests together into whole answers."""
    texts: list[list[str]] = [[] for _ in range(count)]
    tokens: list[list[TokenInfo]] = [[] for _ in range(count)]
    prompts: list[tuple[TokenInfo, ...]] = [() for _ in range(count)]
    done: dict[int, Piece] = {}
    for index, piece in pieces:
        texts[index].append(piece.text)
        tokens[index].extend(piece.tokens)
        prompts[index] = prompts[index] or piece.prompt_tokens
        if piece.finish is not None:
            done[index] = piece
    answers = []
    for index in range(count):
        last = done[index]
        answers.append(
            Completion(
                "".join(texts[index]),
                tuple(tokens[index]),
                last.finish or "error",
                last.usage or Usage(0, 0),
                prompts[index],
                last.error,
            )
        )
    return answers
