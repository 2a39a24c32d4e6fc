"""`allmend lock`: shows what is worked on, then what was fixed and what was not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from allmend.cli.show import notes, out, print_json
from allmend.verbs.lock import LockSettings

if TYPE_CHECKING:
    from allmend.nouns.lock import LockReport
    from allmend.verbs.lock import Locked


def command(
    notebook: Path,
    /,
    *,
    settings: Annotated[LockSettings, Parameter(name="*")] = LockSettings(),  # noqa: B008
    check: bool = False,
    upstream: bool = False,
    diff: Path | None = None,
    export: Path | None = None,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    json: bool = False,
) -> int:
    """Fix what a notebook installs and fetches: versions, commits, digests. `run --locked` holds a run to it.

    Parameters
    ----------
    notebook
        The notebook (.ipynb) or percent script (.py).
    settings
        As of which day, what to update, what to start with.
    check
        Change nothing; exit with 13 when the lock does not fit the notebook.
    upstream
        With --check: also ask the servers whether what was locked is still there and the same.
    diff
        Another lock, or a notebook with one: say in words what changed from it to this one.
    export
        Write the lock for other tools: requirements.txt, a .py with a PEP 723 block, or an .ipynb for juv.
    from_
        Take the lock of this file as the notebook's.
    json
        Print JSON.
    """
    from allmend.verbs import lock as verb

    if check:
        return _report(verb.check(notebook, upstream=upstream, tell=_tell), as_json=json)
    if diff is not None:
        _report(verb.diff(notebook, diff), as_json=json)
        return 0
    if from_ is not None:
        print_json(verb.adopt(notebook, from_)) if json else verb.adopt(notebook, from_)
        return 0
    if export is not None:
        notes().print(f"Written to {verb.export(notebook, export)}", markup=False)
        return 0
    made = verb.carry_out(notebook, settings, _tell)
    if json:
        print_json(made.lock)
    else:
        _show(made)
    return 0


def _tell(text: str) -> None:
    notes().print(f"  {text}", markup=False)


def _report(report: LockReport, *, as_json: bool) -> int:
    from allmend.verbs.lock import MISMATCH

    if as_json:
        print_json(report)
    else:
        console = out()
        for change in report.changes:
            console.print(change.words, markup=False)
        if not report.changes:
            console.print("No difference in what was compared.")
        for what in report.not_checked:
            console.print(f"not checked: {what}", markup=False)
    return MISMATCH if report.changes else 0


def _show(made: Locked) -> None:
    from allmend.locking.check import between

    console, lock = out(), made.lock

    def line(text: str) -> None:
        console.print(text, markup=False)

    day = f", as of {lock.as_of}" if lock.as_of else ""
    line(f"{lock.notebook}: Python {lock.python.version} on {lock.python.platform}, profile {lock.base.profile}{day}")
    size = sum(one.bytes or 0 for one in lock.packages)
    beneath = sum(one.via == "base" for one in lock.packages)
    line(
        f"  packages  {len(lock.packages) - beneath}"
        + (f", {size / 2**20:,.1f} MiB" if size else "")
        + (f", and {beneath} of this environment by version" if beneath else "")
    )
    for clone in lock.clones:
        line(f"  clone     {clone.url} at {clone.commit[:12]} of {clone.committed[:10]}")
    for file in lock.downloads:
        line(f"  file      {file.url}  {file.bytes:,} bytes, {file.sha256[:12]}…")
    for repository in lock.repositories:
        total = sum(one.bytes for one in repository.files)
        line(f"  {repository.kind:<9} {repository.name} at {repository.commit[:12]}, {total / 2**20:,.1f} MiB")
    if lock.system:
        line(f"  apt       {', '.join(f'{one.name} {one.version}' for one in lock.system if one.requested)}")
    for one in lock.unlocked:
        line(f"  NOT LOCKED  cell {one.cell}: {one.what}: {one.why}")
    for note in lock.notes:
        line(f"  note      {note}")
    if made.earlier is not None:
        changes = between(made.earlier, lock).changes
        for change in changes[:12]:
            line(f"  changed   {change.words}")
        if not changes:
            line("  nothing changed")
    line(f"  written   {', '.join(map(str, made.files))}")
