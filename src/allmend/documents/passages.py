"""Text cut into passages: at paragraphs where it can be, at sentences or words where it must be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n")
_HEADING = re.compile(r"^#{1,6} +(.{1,120})$", re.MULTILINE)


@dataclass(frozen=True)
class Passage:
    """A piece of a document."""

    text: str
    page: int | None = None
    heading: str | None = None
    """The Markdown heading above it."""


def passages(text: str, *, page: int | None = None, size: int = 900, overlap: int = 120) -> Iterator[Passage]:
    """Pieces of at most `size` characters, together all of the text.

    Args:
        overlap: most characters of the end of a piece that the next one begins with, whole sentences.
    """
    heading: str | None = None
    held: list[str] = []
    for piece in _pieces(text, size):
        found = _HEADING.findall(piece)
        if held and sum(map(len, held)) + len(held) + len(piece) > size:
            yield Passage("\n".join(held), page, heading)
            held = _end(held[-1], overlap, size - len(piece))
        heading = found[-1].strip() if found else heading
        held.append(piece)
    if held:
        yield Passage("\n".join(held), page, heading)


def _pieces(text: str, size: int) -> Iterator[str]:
    for paragraph in _PARAGRAPH.split(text):
        if len(stripped := paragraph.strip()) <= size:
            if stripped:
                yield stripped
            continue
        held = ""
        for sentence in _SENTENCE.split(stripped):
            for part in _hard(sentence.strip(), size):
                if held and len(held) + 1 + len(part) > size:
                    yield held
                    held = ""
                held = f"{held} {part}".strip()
        if held:
            yield held


def _hard(sentence: str, size: int) -> Iterator[str]:
    """A sentence that is too long, cut at spaces, or anywhere where there are none."""
    while len(sentence) > size:
        place = sentence.rfind(" ", size // 2, size)
        cut = place if place > 0 else size
        yield sentence[:cut].rstrip()
        sentence = sentence[cut:].lstrip()
    if sentence:
        yield sentence


def _end(text: str, overlap: int, room: int) -> list[str]:
    """The last sentences of a passage, for the next to begin with; none where there is no room."""
    sentences = _SENTENCE.split(text)
    kept: list[str] = []
    for sentence in reversed(sentences):
        if sum(map(len, kept)) + len(kept) + len(sentence) > min(overlap, room - 1):
            break
        kept.insert(0, sentence)
    joined = " ".join(kept).strip()
    return [joined] if joined else []
