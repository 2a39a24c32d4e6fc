"""The protocol of transcription engines: sound in, text with times out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Word:
    """A word with its time, in seconds."""

    word: str
    start: float
    end: float


@dataclass(frozen=True)
class Segment:
    """A stretch of speech with its text; times in seconds."""

    id: int
    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Hearing:
    """What is asked of a recording."""

    translate: bool = False
    """Into English, instead of the language spoken."""
    language: str | None = None
    """ISO 639-1; found out where it is not given."""
    prompt: str | None = None
    """Text that comes before, for names and style."""
    temperature: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """Tried in turn, until an answer does not look wrong."""
    words: bool = False
    """Times of words too."""


@dataclass(frozen=True)
class Heard:
    """A recording that is being transcribed."""

    language: str
    duration: float
    segments: Iterator[Segment] = field(repr=False)
    """As they are found."""


class TranscribeEngine(Protocol):
    """A model that turns speech into text."""

    def hear(self, recording: bytes, hearing: Hearing) -> Heard:
        """Transcribe a recording in any common format.

        Raises:
            InputError: it cannot be decoded, is too long, or the language is not known.
        """

    def close(self) -> None:
        """Give back what is held."""
