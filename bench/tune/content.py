"""The rows that every side of `bench/tune` learns from: real sentences, tokenised once, short and long."""

from __future__ import annotations

import json
import random
from typing import Any

from allmend import data
from allmend.data.rows import Row
from allmend.models.rated_rows import examples_file

JOINED = 6
"""Sentences in a long row."""


def rows(kind: str, count: int, tokenizer: Any = None, vocabulary: int | None = None) -> list[data.Tokens]:
    """`count` rows of movie reviews: `short` is one sentence a row, `long` several joined; the answer is one word.

    Args:
        tokenizer: None takes that of the embedded default model.
        vocabulary: ids are taken modulo this, for models of random weights.
    """
    if tokenizer is None:
        from allmend.models import resolve
        from allmend.models.loading import load_tokenizer

        tokenizer = load_tokenizer(resolve("gemma-3-270m"))
    with examples_file("movie-reviews").open(encoding="utf-8") as lines:
        sentences = [json.loads(line) for line in lines]
    random.Random(0).shuffle(sentences)
    if kind == "short":
        made = [Row(prompt=one["prompt"], completion=one["completion"], place="bench") for one in sentences[:count]]
    else:
        made = [_joined(sentences[place * JOINED : (place + 1) * JOINED]) for place in range(count)]
    encoded = list(data.encode_rows(made, tokenizer, data.of_tokenizer(tokenizer)))
    if vocabulary is None:
        return encoded
    return [data.Tokens([one % vocabulary for one in row.ids], row.mask, row.place) for row in encoded]


def _joined(sentences: list[dict[str, str]]) -> Row:
    texts = "\n".join("- " + one["prompt"].split("\n\n", 1)[1] for one in sentences)
    most = sum(one["completion"] == "positive" for one in sentences) * 2 >= len(sentences)
    return Row(
        prompt=f"Are most of these movie reviews positive or negative?\n\n{texts}",
        completion="positive" if most else "negative",
        place="bench",
    )
