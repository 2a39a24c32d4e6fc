"""Tokens to text, a token at a time, never half a character; and stop strings across tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_BROKEN = "\N{REPLACEMENT CHARACTER}"
_LONGEST_CHARACTER = 4
"""Bytes of the longest UTF-8 character: more tokens than that without a whole one are broken for good."""


class Detokeniser:
    """Turns one answer's tokens into text as they come.

    A tokeniser's decoder looks at neighbours (leading spaces, runs of byte tokens), so each step decodes the new
    tokens together with the group emitted before them, and emits what was added. Text that ends within a
    character is held back.

    Args:
        before: the last tokens of a text that the answer goes on from. Without them the answer begins a text of its
            own, from which decoders in SentencePiece's manner take the first space.
    """

    def __init__(self, tokenizer: Any, *, skip_special: bool = True, before: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special
        self._context: list[int] = list(before)
        self._new: list[int] = []

    def feed(self, token: int) -> str:
        """The text that became whole with this token."""
        self._new.append(token)
        text = self._added()
        if text.endswith(_BROKEN) and len(self._new) < _LONGEST_CHARACTER:
            return ""
        if text:
            self._context, self._new = self._new, []
        elif len(self._new) >= 64:
            # Tokens without text (special ones): they need not be decoded again and again.
            self._new = self._new[-_LONGEST_CHARACTER:]
        return text

    def flush(self) -> str:
        """What was held back, at the end of the answer."""
        text = self._added() if self._new else ""
        self._context, self._new = self._new, []
        return text

    def _added(self) -> str:
        before = self._decode(self._context)
        text = self._decode(self._context + self._new)
        if text.startswith(before):
            return text[len(before) :]
        # A run of byte tokens turned out broken as a whole; what was emitted stays as it was.
        return self._decode(self._new)

    def _decode(self, tokens: list[int]) -> str:
        if not tokens:
            return ""
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=self._skip, clean_up_tokenization_spaces=False)
        return text


class StopStrings:
    """Looks for stop strings in text that comes in pieces; holds back what may be the start of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """(text that is safe to show, whether a stop string was met). Text after a stop string is dropped."""
        if not self._stops:
            return text, False
        self._held += text
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            safe, self._held = self._held[: min(found)], ""
            return safe, True
        keep = max(_overlap(self._held, stop) for stop in self._stops)
        cut = len(self._held) - keep
        safe, self._held = self._held[:cut], self._held[cut:]
        return safe, False

    def flush(self) -> str:
        """What was held back and turned out not to be a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`, shorter than `stop` itself."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[len(text) - length :]):
            return length
    return 0
