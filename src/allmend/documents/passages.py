"""Text cut into passages: at paragraphs where it can be, at sentences, lines or words where it must be."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass

_PARAGRAPH = re.compile(r"\n\s*\n")
_BOUNDARY = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n")
_HEADING = re.compile(r"^#{1,6} +(\S.{0,119})$", re.MULTILINE)
_WIDEST = 40
"""Characters of white space between sentences that are kept; what is longer sets nothing apart."""


@dataclass(frozen=True)
class Passage:
    """A piece of a document."""

    text: str
    page: int | None = None
    heading: str | None = None
    """The heading above its beginning, or the first line of its table."""


def passages(
    text: str,
    *,
    page: int | None = None,
    size: int = 900,
    overlap: int = 120,
    headings: Container[str] | None = None,
) -> Iterator[Passage]:
    """Pieces of at most `size` characters, together all of the text; lines and their indentation stay as they are.

    Args:
        overlap: most characters of the end of a piece that the next one begins with, whole sentences or lines.
        headings: lines after `#` that are headings and no comments; all of them when not given.
    """
    above: str | None = None
    last: str | None = None
    held = ""
    for gap, piece in _pieces(text, size):
        if held and len(held) + len(gap) + len(piece) > size:
            yield Passage(held, page, above)
            held = _end(held, min(overlap, size - len(gap) - len(piece)))
            above = last
        found = [line.strip() for line in _HEADING.findall(piece) if headings is None or line.strip() in headings]
        if not held and found and piece.startswith("#"):
            above = found[0]
        last = found[-1] if found else last
        held = f"{held}{gap}{piece}" if held else piece
    if held:
        yield Passage(held, page, above)


def _pieces(text: str, size: int) -> Iterator[tuple[str, str]]:
    """(what stands before it, piece): paragraphs, and the sentences or lines of those that are too long."""
    for paragraph in _PARAGRAPH.split(text):
        body = paragraph.strip("\r\n").rstrip()
        if not body:
            continue
        if len(body) <= size:
            yield "\n\n", body
            continue
        gap = "\n\n"
        for before, sentence in _sentences(body):
            gap = before if before is not None else gap
            for inner, part in _hard(sentence, size):
                yield (gap if inner is None else inner), part


def _sentences(text: str) -> Iterator[tuple[str | None, str]]:
    """(what stands between it and the one before; None for the first, sentence)."""
    start, gap = 0, None
    for found in _BOUNDARY.finditer(text):
        if text[start : found.start()].strip():
            yield gap, text[start : found.start()]
            gap = None
        between = found.group()
        if len(between) > _WIDEST:
            between = "\n" if "\n" in between else " "
        gap = between if gap is None else gap
        start = found.end()
    if text[start:].strip():
        yield gap, text[start:]


def _hard(sentence: str, size: int) -> Iterator[tuple[str | None, str]]:
    """(None for the first, else what stood between, piece) of one that is too long: cut at spaces where there are."""
    start, gap = 0, None
    while len(sentence) - start > size:
        place = sentence.rfind(" ", start + size // 2, start + size)
        cut = place if place > 0 else start + size
        if part := sentence[start:cut].rstrip():
            yield gap, part
        start = cut
        while start < len(sentence) and sentence[start].isspace():
            start += 1
        gap = " " if start > cut else ""
    if sentence[start:].strip():
        yield gap, sentence[start:].rstrip()


def _end(text: str, most: int) -> str:
    """The last sentences or lines of a passage, for the next to begin with; none where there is no room."""
    if most <= 0:
        return ""
    tail = text[-most:]
    if len(tail) < len(text):
        found = _BOUNDARY.search(tail)
        tail = tail[found.end() :] if found is not None else ""
    return tail.strip("\n") if tail.strip() else ""
