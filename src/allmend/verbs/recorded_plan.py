"""The plan that a tuning run keeps in its folder: read to continue the run, or to replay it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from allmend.errors import InputError
from allmend.tuning.loop import Plan
from allmend.tuning.tricks import Tricks

PLAN = "plan.json"


@dataclass(frozen=True)
class Recorded:
    """What a replay takes from the run it repeats."""

    plan: Plan
    """With the stops that happened, and no deadline."""
    data: str | None
    """Digest of the rows."""
    held_out: str | None = None
    """Digest of the file of held-out rows, where there is one."""
    division: str | None = None
    """Digest of the rows that were held out."""


def read_plan(folder: Path) -> Plan:
    """The plan that a run's folder keeps.

    Raises:
        InputError: there is none, or it is damaged.
    """
    try:
        values = json.loads((folder / PLAN).read_text("utf-8"))
        values["replanned"] = tuple(tuple(pair) for pair in values["replanned"])
        values["evaluate_at"] = tuple(values.get("evaluate_at", ()))
        values["tricks"] = Tricks(**values.get("tricks", {}))
        return Plan(**values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"this run's plan cannot be read: {type(error).__name__}", where=str(folder / PLAN)) from None
