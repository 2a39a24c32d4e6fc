"""Which documents an answer rests on, as `file_citation` annotations of its text.

A model that was shown numbered passages may name them, as in `[2]`: these are its citations. One that names none is
held against what it was shown: a sentence most of whose words stand in a passage cites that passage's file. Nothing is
taken out of the text or put into it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from allmend.serving.searching import SearchedPassage

_NAMED = re.compile(r"[\[【]\s{0,2}(\d{1,2}(?:\s{0,2},\s{0,2}\d{1,2}){0,8})\s{0,2}[\]】]")
_LONGEST = 64
"""Characters of a mark that is not closed yet, before which a stream's text is not settled."""
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_SENTENCE = re.compile(r"[^\n]+?(?:[.!?]{1,8}[\"')\]]{0,4}(?=\s)|(?=\n)|\Z)|[^\n]+")
_WORD = re.compile(r"[^\W_]+")
_FEWEST = 3
_SHARE = 2 / 3
"""Of a sentence's longer words, and so many at least, must stand in what it cites."""
_MOST = 1000
"""Citations of an answer, and sentences that are looked at."""


class FileCitation(BaseModel):
    """A file that a text rests on."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: Literal["file_citation"] = "file_citation"
    index: int
    """Where in the text, in characters, the citation belongs."""
    file_id: str
    filename: str


class Citations:
    """Those of one answer, as it grows.

    Args:
        found: the passages that the model was shown, in their order.
    """

    def __init__(self, found: Sequence[SearchedPassage]) -> None:
        self._found = found
        self._text = ""
        self._settled = 0
        self._seen: set[tuple[int, str]] = set()
        self.given: list[FileCitation] = []

    def feed(self, text: str) -> list[FileCitation]:
        """Those that more text brings; where it names a passage."""
        if not self._found:
            return []
        self._text += text
        # A mark may be cut in two: what begins with the last bracket is looked at again.
        end = max(self._text.rfind(mark, self._settled) for mark in "[【")
        if end < 0 or len(self._text) - end > _LONGEST or _NAMED.match(self._text, end):
            end = len(self._text)
        return self._take(self._marks(end))

    def finish(self) -> list[FileCitation]:
        """Those that only the whole text shows."""
        if not self._found:
            return []
        new = self._take(self._marks(len(self._text)))
        return new if self.given else self._take(self._sentences())

    def _take(self, citations: Iterator[tuple[int, SearchedPassage]]) -> list[FileCitation]:
        begin = len(self.given)
        for index, hit in citations:
            if (index, hit.file_id) not in self._seen:
                self._seen.add((index, hit.file_id))
                self.given.append(FileCitation(index=index, file_id=hit.file_id, filename=hit.filename))
        return self.given[begin:]

    def _marks(self, end: int) -> Iterator[tuple[int, SearchedPassage]]:
        begin, self._settled = self._settled, end
        for mark in _NAMED.finditer(self._text, begin, end):
            named = [number for number in map(int, mark[1].split(",")) if 0 < number <= len(self._found)]
            if not named or len(self.given) >= _MOST or self._in_code(mark.start()):
                continue
            for number in named:
                yield mark.start(), self._found[number - 1]

    def _in_code(self, place: int) -> bool:
        """Whether `x[1]` stands here, which cites nothing."""
        line = self._text.rfind("\n", 0, place) + 1
        return self._text.count("```", 0, place) % 2 == 1 or self._text.count("`", line, place) % 2 == 1

    def _sentences(self) -> Iterator[tuple[int, SearchedPassage]]:
        where: dict[str, list[int]] = {}
        for place, hit in enumerate(self._found):
            for word in _words(hit.text):
                where.setdefault(word, []).append(place)
        plain = _CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), self._text)
        for number, sentence in enumerate(_SENTENCE.finditer(plain)):
            if number == _MOST:
                return
            words = _words(sentence[0])
            counts = Counter(place for word in words for place in where.get(word, ()))
            best = min(counts, key=lambda place: (-counts[place], place), default=None)
            if best is not None and counts[best] >= max(_FEWEST, _SHARE * len(words)):
                yield sentence.start() + len(sentence[0].rstrip()), self._found[best]


def _words(text: str) -> set[str]:
    """Words that say something: the longer ones, and numbers."""
    words = (word.casefold() for word in _WORD.findall(text))
    return {word for word in words if len(word) > 3 or word.isdigit()}
