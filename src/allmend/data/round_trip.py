"""Whether rows survive the way to tokens and back: one beginning, an end to every answer, no letter lost."""

from __future__ import annotations

from typing import Any

from allmend.data.findings import Found, finding
from allmend.data.rows import Row
from allmend.data.templates import Template
from allmend.data.tokens import Tokens, marks, stretches_of
from allmend.nouns.data_report import DataProblem

SAMPLE = 300
"""The first so many rows are decoded again, then as many of every second row, of every fourth, and so on; the other
two checks look at every row."""


class RoundTrip:
    """Takes rows with their tokens one by one; `findings` says what was wrong."""

    def __init__(self, tokenizer: Any, template: Template) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.marks = marks(tokenizer)
        self.seen = self.decoded = 0
        self.every = 1
        self.twice, self.endless, self.changed = Found(), Found(), Found()

    def look(self, row: Row, tokens: Tokens) -> None:
        """Check one row."""
        ends = self.marks
        if ends.bos is not None and tokens.ids[:2] == [ends.bos, ends.bos]:
            self.twice.add(row.place)
        last = tokens.mask.rfind(1)
        if last >= 0 and tokens.ids[last] not in ends.special_ids:
            self.endless.add(row.place)
        if self.seen % self.every == 0:
            self.decoded += 1
            if not self._comes_back(row, tokens):
                self.changed.add(row.place)
            if self.decoded % SAMPLE == 0:
                self.every *= 2
        self.seen += 1

    def _comes_back(self, row: Row, tokens: Tokens) -> bool:
        wanted = "".join(text for text, _ in stretches_of(row, self.tokenizer, self.template))
        have = self.tokenizer.decode(tokens.ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for mark in (self.marks.bos_text, self.marks.eos_text):
            if mark:
                wanted, have = wanted.replace(mark, ""), have.replace(mark, "")
        return "".join(wanted.split()) == "".join(have.split())

    def findings(self) -> list[DataProblem]:
        """What was found."""
        why = "begin with two beginning-of-text marks: one of the template, one of the tokenizer"
        found = finding("double-beginning", "warning", why, self.twice, "Take the mark out of the template or the row.")
        why = "teach an answer that ends without an end mark, so the model would not learn to stop"
        found += finding("missing-end", "warning", why, self.endless, "Let the template end each answer with one.")
        why = "are not the same after the tokenizer: letters that it does not know or changes"
        if self.decoded < self.seen:
            why += f" ({self.decoded} of {self.seen} rows were looked at)"
        return found + finding("round-trip", "warning", why, self.changed, "The model never sees what is lost.")
