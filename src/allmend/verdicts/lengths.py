"""How long written answers may get: as long as those that are expected, as the template renders them."""

from __future__ import annotations

from collections.abc import Sequence

from allmend.data import Row, Template, encode_rows
from allmend.models.loading import Loaded
from allmend.verdicts.measure import runs_of
from allmend.verdicts.question import Question

PROGRAM_TOKENS = 512
"""For pass@k at least: a program that passes need not be as short as the one in the rows."""


def limit_of(loaded: Loaded, question: Question) -> int:
    """Most tokens of a written answer to this question, the same for every model that is asked it."""
    if question.longest_answer is not None:
        return question.longest_answer
    rows = [question.rows[place] for place in question.text_places]
    longest = max(needed(loaded, rows, question.template), default=1)
    if question.runs_programs:
        longest = max(PROGRAM_TOKENS, longest)
    return max(1, min(longest, loaded.context - 1))


def rooms(loaded: Loaded, rows: Sequence[Row], question: Question, limit: int) -> list[int]:
    """Tokens of the context to leave free for the answer to each row, so that a long prompt keeps its start."""
    if question.runs_programs:
        return [min(limit, loaded.context // 2)] * len(rows)
    return [min(limit, most) for most in needed(loaded, rows, question.template)]


def needed(loaded: Loaded, rows: Sequence[Row], template: Template) -> list[int]:
    """Tokens that each row's last answer takes as it is learned, calls of tools and its end included, and some more.

    The same answer may be written with other spaces: an eighth and four tokens more are given.
    """
    lengths = []
    for tokens in encode_rows(rows, loaded.tokenizer, template):
        start, end = runs_of(tokens.mask)[-1]
        lengths.append(end - start)
    return [length + length // 8 + 4 for length in lengths]
