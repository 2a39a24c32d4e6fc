"""Going on with a tuning run that was stopped: which run is the same work, and what is taken over from it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from allmend import runs
from allmend.tuning import checkpoint, together
from allmend.tuning.loop import BEST, LAST, Plan
from allmend.verbs.recorded_plan import read_plan

if TYPE_CHECKING:
    from allmend.verbs.tuning_work import Tuning


def key(tuning: Tuning) -> str:
    """What makes two runs the same work."""
    values = tuning.settings.model_dump(mode="json", exclude={"fresh", "workers"})
    examples = tuning.dataset.examples
    parts = [values, examples.sha256, examples.held_out_sha256, tuning.loaded.about.digest]
    if tuning.shard.divides_weights:
        # Their checkpoints hold shares, which fit as many processes only.
        parts.append(f"{together.processes()} processes")
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def interrupted(tuning: Tuning, *files: str, failed: bool = False) -> Path | None:
    """The folder of the latest run of the same work, if it was stopped and left these files to go on from.

    Args:
        failed: also one that ended in an error.
    """
    wanted = key(tuning)
    for earlier in runs.list(verb="tune", limit=20):
        folder = Path(earlier.folder)
        if earlier.id == tuning.run.id or not (folder / "key").is_file() or (folder / "key").read_text() != wanted:
            continue
        states = {"interrupted", "failed"} if failed else {"interrupted"}
        going = earlier.state in states and all((folder / name).is_file() for name in files)
        return folder if going else None
    return None


def taken_over(tuning: Tuning, folder: Path) -> Plan:
    """The plan of the run in `folder`, whose checkpoints are this run's now."""
    # Read before anything is taken over: a damaged checkpoint must leave no adapter behind.
    _, _, progress = checkpoint.load(folder / LAST)
    plan = read_plan(folder)
    for name in (LAST, BEST):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, tuning.run.folder / name)
    # What earlier sittings trained counts; a budget that was spent on training alone buys nothing more.
    left = progress.seconds + max(0.0, tuning.seconds_to_train())
    return replace(plan, deadline=min(plan.deadline or tuning.settings.budget, left))
