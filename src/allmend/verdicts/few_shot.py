"""The untuned model with examples in its prompt: what can be had without any training."""

from __future__ import annotations

import random
from collections.abc import Sequence

from allmend.data import Row
from allmend.data.rows import Message


def choose_shots(train: Sequence[Row], count: int, seed: int = 0) -> list[Row]:
    """`count` training rows to show: one of each label in turn, shorter ones preferred.

    Of a random tenth (at least 50 rows) the shorter half is used, so that the prompt stays small.
    """
    usable = [row for row in train if row.kind != "text" and not row.is_empty]
    chance = random.Random(seed)
    pool = chance.sample(usable, min(len(usable), max(50, len(usable) // 10)))
    pool = sorted(pool, key=lambda row: len(row.given) + len(row.completion))[: max(count, len(pool) // 2)]
    chance.shuffle(pool)
    by_answer: dict[str, list[Row]] = {}
    for row in pool:
        by_answer.setdefault(row.completion, []).append(row)
    chosen: list[Row] = []
    while len(chosen) < min(count, len(pool)):
        for answers in sorted(by_answer.values(), key=len, reverse=True):
            if answers and len(chosen) < count:
                chosen.append(answers.pop())
    chance.shuffle(chosen)
    return chosen


def with_shots(messages: Sequence[Message], shots: Sequence[Row]) -> list[Message]:
    """The conversation with the shots as earlier turns, after its own system message."""
    if not shots:
        return list(messages)
    head = 1 if messages and messages[0]["role"] in ("system", "developer") else 0
    turns = [m for shot in shots for m in shot.as_messages() if m["role"] not in ("system", "developer")]
    return [*messages[:head], *turns, *messages[head:]]
