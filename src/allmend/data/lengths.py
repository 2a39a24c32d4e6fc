"""How long rows are, in characters, words and tokens, and which do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from allmend.data.findings import finding
from allmend.data.round_trip import RoundTrip
from allmend.data.rows import Row
from allmend.data.sensitive import whole_text
from allmend.data.templates import Template
from allmend.data.tokens import encode_rows, marks
from allmend.nouns.data_report import DataProblem, Lengths

BINS = 24
"""Ranges of a histogram of lengths."""


def character_lengths(rows: Sequence[Row]) -> list[Lengths]:
    """Characters and words of prompts and completions, or of texts."""
    if not rows:
        return []
    if rows[0].text is not None:
        parts: list[tuple[Literal["prompt", "completion", "text"], list[str]]] = [("text", [row.given for row in rows])]
    else:
        parts = [("prompt", [row.prompt for row in rows]), ("completion", [row.completion for row in rows])]
    found = []
    for name, texts in parts:
        found.append(_summary(name, "characters", [len(text) for text in texts]))
        found.append(_summary(name, "words", [len(text.split()) for text in texts]))
    return found


def token_findings(
    rows: Sequence[Row], tokenizer: Any, template: Template, context: int | None
) -> tuple[list[DataProblem], list[Lengths]]:
    """Lengths in tokens as training sees the rows; rows that do not fit; special tokens written out in rows."""
    sizes: list[int] = []
    learned: list[int] = []
    long_rows: list[Row] = []
    long_answers: list[Row] = []
    trip = RoundTrip(tokenizer, template, len(rows))
    for row, tokens in zip(rows, encode_rows(rows, tokenizer, template), strict=True):
        trip.look(row, tokens)
        sizes.append(len(tokens))
        learned.append(tokens.learned)
        if context is not None and len(tokens) > context:
            needed = len(tokens) - tokens.labels_from + 1
            (long_answers if row.text is None and needed > context else long_rows).append(row)
    why = f"the answer alone is longer than the context of {context} tokens"
    problems = finding("answer-too-long", "blocking", why, long_answers, "Shorten or divide them.")
    what = "become several windows" if rows and rows[0].text is not None else "lose the start of their prompt"
    why = f"are longer than {context} tokens and {what}"
    problems += finding("longer-than-context", "warning", why, long_rows, "Allow a longer context, or shorten them.")
    problems += trip.findings()
    special = [mark for mark in marks(tokenizer).endings if len(mark) > 2]
    marked = [row for row in rows if any(mark in whole_text(row) for mark in special)]
    why = "hold special tokens of the model, written out; the model takes them for its own"
    problems += finding("special-tokens", "warning", why, marked, "Take them out.")
    if not sizes:
        return problems, []
    return problems, [_summary("row", "tokens", sizes), _summary("completion", "tokens", learned)]


def _summary(name: Any, unit: Any, values: list[int]) -> Lengths:
    sizes = np.asarray(values)
    return Lengths(
        of=name,
        unit=unit,
        least=int(sizes.min()),
        median=float(np.median(sizes)),
        most_of_them=float(np.percentile(sizes, 95)),
        most=int(sizes.max()),
        total=int(sizes.sum()),
        bins=np.histogram(sizes, bins=BINS)[0].tolist() if sizes.min() < sizes.max() else [len(values)],
    )
