"""Messages between a server and its engine's process, over a socket pair that only the two have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from allmend.engines.text import Piece, TextRequest


@dataclass(frozen=True, slots=True)
class Build:
    """To the process, first: `module:function` with arguments, which gives (engine, what is to be known of it)."""

    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """From the process: the engine is built."""

    context: int
    memory_tokens: int | None
    about: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Submit:
    """To the process: a request."""

    number: int
    request: TextRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    """To the process: end a request."""

    number: int


@dataclass(frozen=True, slots=True)
class Call:
    """To the process: a method of the engine, answered by `Answer`."""

    number: int
    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """From the process: to a `Call`, or that a `Submit` was taken."""

    number: int
    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Pieces:
    """From the process: parts of answers, those of one step together."""

    pieces: tuple[tuple[int, Piece], ...]


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter by where its files are."""

    folder: str
    identity: str
    """`AdapterWeights.identity` of what is to be found there."""
