"""`allmend plan`: what a notebook, script, folder, model or adapter will do, before it does it."""

from __future__ import annotations

from pathlib import Path

from allmend.notebooks.document import read
from allmend.nouns.plan import Plan
from allmend.planning.assemble import plan_notebook
from allmend.verbs.settings import Settings


class PlanSettings(Settings):
    """Settings of `allmend plan`."""

    follow: bool = False
    """Fetch cloned repositories and scripts one level out and read them too (nothing is executed)."""


def plan(path: str | Path, *, follow: bool = False) -> Plan:
    """Say what running `path` would do. Nothing is executed."""
    PlanSettings.of({"follow": follow})
    return plan_notebook(read(path), path=str(path))
