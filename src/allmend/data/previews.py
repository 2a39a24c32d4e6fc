"""A few rows as training sees them, chosen while all go by: what is read, what is learned, what is cut off.

The first row; the first that the context cuts; the longest; the first of each label. Of `most` places in all, what is
left over goes to the rows that follow the first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from allmend.data.rows import Row
from allmend.data.templates import Template
from allmend.data.tokens import Tokens, marks, stretches_of
from allmend.errors import InputError
from allmend.nouns.data_report import Preview
from allmend.redaction import redact

MOST = 4
"""Rows that are shown where nobody says how many."""

_TEXT = 2000
"""Characters that are kept of a stretch."""
_LABELS = 8
"""Labels of which the first row is kept."""


@dataclass
class Previews:
    """Rows go in one by one; those worth showing are kept."""

    template: Template
    tokenizer: Any = None
    context: int | None = None
    most: int = MOST
    _first: list[tuple[Row, Tokens | None]] = field(default_factory=list)
    _longest: tuple[int, Row, Tokens | None] | None = None
    _cut: tuple[Row, Tokens] | None = None
    _labels: dict[str, tuple[Row, Tokens | None]] = field(default_factory=dict)

    def look(self, row: Row, tokens: Tokens | None = None) -> None:
        """See the next row, and its tokens where they are counted."""
        if not self.most:
            return
        if len(self._first) < self.most:
            self._first.append((row, tokens))
        size = len(tokens) if tokens is not None else len(row.given) + len(row.completion)
        if self._longest is None or size > self._longest[0]:
            self._longest = (size, row, tokens)
        if self._cut is None and tokens is not None and self.context is not None and len(tokens) > self.context:
            self._cut = (row, tokens)
        if row.completion not in self._labels and len(self._labels) < _LABELS:
            self._labels[row.completion] = (row, tokens)

    def chosen(self, classes: bool) -> list[Preview]:
        """The rows to show, the first of the file first.

        Args:
            classes: whether completions are labels.
        """
        wanted: list[tuple[Row, Tokens | None, str]] = [(*one, "the first row") for one in self._first[:1]]
        if self._cut is not None:
            wanted.append((*self._cut, "the first that is longer than the context"))
        if classes:
            wanted += [(*one, f"the first {label!r}") for label, one in self._labels.items()]
        if self._longest is not None:
            # One place is kept for it, however many labels there are.
            wanted.insert(min(len(wanted), max(1, self.most - 1)), (*self._longest[1:], "the longest"))
        wanted += [(*one, "") for one in self._first[1:]]
        found: dict[str, tuple[Row, Tokens | None, list[str]]] = {}
        for row, tokens, why in wanted:
            if row.place in found:
                found[row.place][2].extend([why] if why else [])
            elif len(found) < self.most:
                found[row.place] = (row, tokens, [why] if why else [])
        shown = (self._shown(row, tokens, ", ".join(why)) for row, tokens, why in found.values())
        return [preview for preview in shown if preview is not None]

    def _shown(self, row: Row, tokens: Tokens | None, why: str) -> Preview | None:
        try:
            parts, cut = self._parts(row, tokens)
        except InputError:
            return None
        kept = [(_middle_out(redact(text)), learned) for text, learned in parts if text]
        return Preview(
            place=row.place,
            why=why,
            template="none" if row.text is not None else self.template.name,
            given="".join(text for text, learned in kept if not learned),
            learned="".join(text for text, learned in kept if learned),
            parts=kept,
            cut=_middle_out(redact(cut[0])),
            cut_tokens=cut[1],
            tokens=None if tokens is None else len(tokens),
            learned_tokens=None if tokens is None else tokens.learned,
        )

    def _parts(self, row: Row, tokens: Tokens | None) -> tuple[list[tuple[str, bool]], tuple[str, int]]:
        """Stretches of text and whether each is learned; what is cut from the start, as text and in tokens."""
        if tokens is None:
            return stretches_of(row, None, self.template), ("", 0)
        parts, ends = stretches_of(row, self.tokenizer, self.template), marks(self.tokenizer)
        if tokens.mask[-1] and tokens.ids[-1] == ends.eos and not parts[-1][0].rstrip().endswith(ends.endings):
            parts.append((ends.eos_text, True))
        begins = int(bool(tokens.ids) and tokens.ids[0] == ends.bos)
        over = 0 if self.context is None or row.text is not None else max(0, len(tokens) - self.context)
        cut = ("", 0)
        if over and not parts[0][1]:
            at = self._place_of(parts[0][0], over)
            cut = (parts[0][0][:at], over)
            parts[0] = (parts[0][0][at:], False)
        if begins:
            parts.insert(0, (ends.bos_text, False))
        return parts, cut

    def _place_of(self, text: str, tokens: int) -> int:
        """The character with which token `tokens` of `text` begins."""
        try:
            offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            return int(offsets[tokens][0]) if tokens < len(offsets) else len(text)
        except (NotImplementedError, TypeError, KeyError):  # a tokenizer in Python knows no places
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            return len(self.tokenizer.decode(ids[:tokens], skip_special_tokens=False))


def _middle_out(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[: _TEXT // 2]} … {text[-_TEXT // 2 :]}"
