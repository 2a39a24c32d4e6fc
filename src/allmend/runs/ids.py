"""Names of runs: `tune-20261122-7f3k`. The verb, the day (UTC), the time of day in four letters: they sort."""

from __future__ import annotations

from datetime import UTC, datetime

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no letter that looks like another."""

STEPS = len(ALPHABET) ** 4
"""A day in steps of 82 milliseconds."""


def run_id(verb: str, when: datetime, later: int = 0) -> str:
    """The name of a run of `verb` begun at `when`; `later` steps on, when that name is taken."""
    when = when.astimezone(UTC)
    midnight = when.replace(hour=0, minute=0, second=0, microsecond=0)
    step = (int((when - midnight).total_seconds() / 86400 * STEPS) + later) % STEPS
    letters = ""
    for _ in range(4):
        step, place = divmod(step, len(ALPHABET))
        letters = ALPHABET[place] + letters
    return f"{verb.replace(' ', '-')}-{when:%Y%m%d}-{letters}"
