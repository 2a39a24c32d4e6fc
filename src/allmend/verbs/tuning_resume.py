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


KEY, _FRESH = "key", "fresh"


def key(tuning: Tuning) -> str:
    """What makes two runs the same work."""
    values = tuning.settings.model_dump(mode="json", exclude={"fresh", "workers"})
    examples = tuning.dataset.examples
    parts = [values, examples.sha256, examples.held_out_sha256, tuning.loaded.about.digest]
    if tuning.shard.divides_weights:
        # Their checkpoints hold shares, which fit as many processes only.
        parts.append(f"{together.processes()} processes")
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def write_key(tuning: Tuning) -> None:
    """Say in the run's folder which work it does, and whether it began anew on purpose."""
    fresh = f"\n{_FRESH}" if tuning.settings.fresh else ""
    (tuning.run.folder / KEY).write_text(key(tuning) + fresh)


def forget(tuning: Tuning) -> None:
    """Have nobody go on with this run: it would end in the same way again."""
    (tuning.run.folder / KEY).unlink(missing_ok=True)


def interrupted(tuning: Tuning, *files: str) -> Path | None:
    """The folder of the latest run of the same work that was stopped or failed, and left these files to go on from.

    A run that was killed before it had them is passed over: what an earlier one reached is not lost by it.
    """
    wanted = key(tuning)
    for earlier in runs.list(verb="tune", limit=20):
        folder = Path(earlier.folder)
        if earlier.id == tuning.run.id or not (folder / KEY).is_file():
            continue
        own, _, fresh = (folder / KEY).read_text().partition("\n")
        if own != wanted:
            continue
        if earlier.state not in {"interrupted", "failed"}:
            return None
        if all((folder / name).is_file() for name in files):
            return folder
        if fresh == _FRESH:
            return None
    return None


def taken_over(tuning: Tuning, folder: Path) -> Plan:
    """The plan of the run in `folder`, whose checkpoints are this run's now."""
    # Read before anything is taken over: a damaged checkpoint must leave no adapter behind.
    _, _, progress = checkpoint.load(folder / LAST)
    if (folder / BEST).is_file():
        checkpoint.load(folder / BEST)
    plan = read_plan(folder)
    # By rename, and the last one last: a kill leaves a run to go on with, or one that is passed over.
    for name in (BEST, LAST):
        if (folder / name).is_file():
            hidden = tuning.run.folder / f".{name}.new"
            shutil.copyfile(folder / name, hidden)
            hidden.replace(tuning.run.folder / name)
    # What earlier sittings trained counts; a budget that was spent on training alone buys nothing more.
    left = progress.seconds + max(0.0, tuning.seconds_to_train())
    return replace(plan, deadline=min(plan.deadline or tuning.settings.budget, left))
