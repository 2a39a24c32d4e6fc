"""How long rows are, in characters, words and tokens, and which do not fit."""

from __future__ import annotations

from array import array
from typing import Any, Literal

import numpy as np

from allmend.data.findings import Found, finding
from allmend.data.previews import Previews
from allmend.data.round_trip import RoundTrip
from allmend.data.rows import Row
from allmend.data.sensitive import whole_text
from allmend.data.templates import Template
from allmend.data.tokens import Tokens, encode_rows, marks
from allmend.nouns.data_report import DataProblem, Lengths

BINS = 24
"""Ranges of a histogram of lengths."""

_AT_ONCE = 512
"""Rows that are tokenised together."""


class Sizes:
    """Numbers, four bytes each, and what is told of them."""

    def __init__(self, of: Literal["prompt", "completion", "text", "row"], unit: Any) -> None:
        self.of, self.unit = of, unit
        self._values = array("I")
        self.add = self._values.append

    def told(self) -> list[Lengths]:
        """Least, median and most, and a histogram; nothing where there are no numbers."""
        if not self._values:
            return []
        sizes = np.frombuffer(self._values, np.dtype("I"))
        median, most_of_them = np.percentile(sizes, [50, 95])
        return [
            Lengths(
                of=self.of,
                unit=self.unit,
                least=int(sizes.min()),
                median=float(median),
                most_of_them=float(most_of_them),
                most=int(sizes.max()),
                total=int(sizes.sum(dtype=np.int64)),
                bins=np.histogram(sizes, bins=BINS)[0].tolist() if sizes.min() < sizes.max() else [len(sizes)],
            )
        ]


class CharacterLengths:
    """Characters and words of prompts and completions, or of texts."""

    def __init__(self) -> None:
        self._sizes: list[Sizes] = []

    def look(self, row: Row) -> None:
        """See the next row."""
        parts = {"text": row.text} if row.text is not None else {"prompt": row.prompt, "completion": row.completion}
        if not self._sizes:
            self._sizes = [Sizes(name, unit) for name in parts for unit in ("characters", "words")]  # type: ignore[arg-type]
        for place, text in enumerate(parts.values()):
            self._sizes[2 * place].add(len(text))
            self._sizes[2 * place + 1].add(len(text.split()))

    def lengths(self) -> list[Lengths]:
        """What was seen."""
        return [told for sizes in self._sizes for told in sizes.told()]


class TokenLengths:
    """Lengths in tokens as training sees the rows; rows that do not fit; special tokens written out in rows.

    Args:
        context: longest row in tokens; None looks for none that is too long.
        previews: gets the rows with their tokens.
    """

    def __init__(
        self, tokenizer: Any, template: Template, context: int | None, previews: Previews | None = None
    ) -> None:
        self._previews = previews
        self._tokenizer, self._template, self._context = tokenizer, template, context
        self._special = [mark for mark in marks(tokenizer).endings if len(mark) > 2]
        self._trip = RoundTrip(tokenizer, template)
        self._waiting: list[Row] = []
        self._sizes, self._learned = Sizes("row", "tokens"), Sizes("completion", "tokens")
        self._long_rows, self._long_answers, self._marked = Found(), Found(), Found()
        self._windows = False

    def look(self, row: Row) -> None:
        """See the next row."""
        self._waiting.append(row)
        if len(self._waiting) >= _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        rows, self._waiting = self._waiting, []
        for row, tokens in zip(rows, encode_rows(rows, self._tokenizer, self._template), strict=True):
            self._one(row, tokens)

    def _one(self, row: Row, tokens: Tokens) -> None:
        self._trip.look(row, tokens)
        if self._previews is not None:
            self._previews.look(row, tokens)
        self._sizes.add(len(tokens))
        self._learned.add(tokens.learned)
        context = self._context
        if context is not None and len(tokens) > context:
            needed = len(tokens) - tokens.labels_from + 1
            self._windows |= row.text is not None
            (self._long_answers if row.text is None and needed > context else self._long_rows).add(row.place)
        if self._special:
            text = whole_text(row)
            if any(mark in text for mark in self._special):
                self._marked.add(row.place)

    def findings(self) -> list[DataProblem]:
        """What was found."""
        self._flush()
        why = f"the answer alone is longer than the context of {self._context} tokens"
        found = finding("answer-too-long", "blocking", why, self._long_answers, "Shorten or divide them.")
        what = "become several windows" if self._windows else "lose the start of their prompt"
        why = f"are longer than {self._context} tokens and {what}"
        fix = "Allow a longer context, or shorten them."
        found += finding("longer-than-context", "warning", why, self._long_rows, fix)
        found += self._trip.findings()
        why = "hold special tokens of the model, written out; the model takes them for its own"
        return found + finding("special-tokens", "warning", why, self._marked, "Take them out.")

    def lengths(self) -> list[Lengths]:
        """What was seen."""
        self._flush()
        return self._sizes.told() + self._learned.told()
