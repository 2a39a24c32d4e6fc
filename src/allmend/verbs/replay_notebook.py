"""A notebook's run once more, held to its lock and to the permissions it had, and how alike the outputs are."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allmend.errors import InputError, NotFound, Refused, UsageError
from allmend.verbs.run import RunSettings

if TYPE_CHECKING:
    from allmend.box.job import Progress
    from allmend.nouns.likeness import Likeness
    from allmend.nouns.run import Run

_CARRIED = ("parameters", "upload", "keep_going")
"""Settings of the first run that the second takes over; the lock settles the rest."""


def replay_notebook(earlier: Run, *, tolerance: float | None = None, progress: Progress | None = None) -> Likeness:
    """Run it again and compare.

    Raises:
        NotFound: the notebook, its lock or the first run's outputs are gone.
        Refused: the notebook was edited since that run.
        UsageError: the first run had a secret parameter, which no record keeps.
    """
    from allmend.locking import outputs
    from allmend.verbs import run as verb

    notebook = _notebook(earlier)
    executed = _there(earlier, "executed notebook")
    receipt = json.loads(_there(earlier, "receipt").read_text())
    values = {str(name): value for name, value in receipt.get("parameters", {}).items()}
    if "(not shown)" in values.values():
        raise UsageError(
            "that run had a secret parameter, and records keep none: it cannot be replayed", where=earlier.id
        )
    first = json.loads(executed.read_text())
    _same_code(notebook, first, values)
    with tempfile.TemporaryDirectory(prefix="allmend-replay-") as folder:
        settings = _settings(earlier, receipt, Path(folder), notebook)
        prepared = verb.prepare(notebook, settings)
        second = verb.carry_out(prepared, verb.agreed(prepared), progress=progress)
    again = settings.output or notebook.parent
    made = json.loads((again / f"{notebook.stem}.ipynb").read_text())
    folders = (executed.parent / "outputs", again / "outputs")
    found = outputs.compare(
        first, made, (earlier.id, str(again)), tolerance=tolerance or outputs.TOLERANCE,
        folders=folders if any(folder.is_dir() for folder in folders) else None,
    )  # fmt: skip
    if second.ended != receipt.get("ended"):
        from allmend.nouns.likeness import OutputLikeness

        ended = OutputLikeness(where="run", kind="ending", alike="different",
                               why=f"{receipt.get('ended')}, then {second.ended}: {second.ended_why}")  # fmt: skip
        found = found.model_copy(update={"alike": "different", "outputs": [ended, *found.outputs]})
    return found


def _notebook(earlier: Run) -> Path:
    if earlier.state == "running" or not earlier.inputs:
        raise UsageError(f"{earlier.id} has not ended, or has no notebook on record", where=earlier.id)
    path = Path(earlier.inputs[0].path)
    if not path.is_file():
        raise NotFound("the notebook of that run is not there any more", where=str(path))
    return path


def _there(earlier: Run, name: str) -> Path:
    found = earlier.output(name)
    if found is None or not Path(found).is_file():
        raise NotFound(
            f"the {name} of that run is gone, so there is nothing to compare with", where=found or earlier.id,
            hint="Runs of one notebook write to one folder: keep it with --output.",
        )  # fmt: skip
    return Path(found)


def _same_code(notebook: Path, executed: dict[str, Any], values: dict[str, Any]) -> None:
    from allmend.box import document
    from allmend.locking.make import code_digest
    from allmend.verbs.plan import plan

    now = document.read(notebook).content
    document.with_parameters(now, values, plan(notebook).parameters)
    if code_digest(now) != code_digest(document._normal(executed)):
        raise Refused(
            "the notebook was edited since that run, so running it is no replay", where=str(notebook),
            hint="Run it anew: `allmend run --locked`.",
        )  # fmt: skip


def _settings(earlier: Run, receipt: dict[str, Any], folder: Path, notebook: Path) -> RunSettings:
    from allmend.nouns.permissions import Permissions

    try:
        permissions = Permissions.model_validate({**receipt["permissions"], "sha256": None})
    except (KeyError, ValueError):
        raise InputError("the receipt of that run has no permissions that can be read", where=earlier.id) from None
    again = notebook.with_name(f"{notebook.stem}-replay")
    if permissions.files.write is not None:
        files = permissions.files.model_copy(update={"write": str((again / "outputs").absolute())})
        permissions = permissions.model_copy(update={"files": files})
    file = folder / "permissions.toml"
    file.write_text(permissions.to_toml())
    carried = {name: earlier.settings[name] for name in _CARRIED if name in earlier.settings}
    values = [f"{name}={json.dumps(value)}" for name, value in receipt.get("parameters", {}).items()]
    findings = [f"finding:{name}" for name in permissions.accept.findings]
    return RunSettings.of(
        {**carried, "parameters": values, "permissions": file, "allow": findings, "output": again, "locked": True,
         "yes": True}
    )  # fmt: skip
