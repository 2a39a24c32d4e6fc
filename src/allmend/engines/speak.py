"""The protocol of speech engines: text in, sound out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Sound:
    """Speech: 16-bit little-endian samples of one channel."""

    samples: bytes
    rate: int
    """Samples a second."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / 2 / self.rate


class SpeakEngine(Protocol):
    """A voice."""

    program: str
    """What speaks, with its licence, to be shown."""
    voices: tuple[str, ...]
    """Names of its speakers; one for most."""

    def speak(self, text: str, *, speed: float = 1.0, voice: str | None = None) -> Sound:
        """Say a text.

        Raises:
            InputError: there is no such voice.
            Unavailable: the program that speaks is not installed, or failed.
        """

    def close(self) -> None:
        """End what runs."""
