"""`run`: hold a notebook to its permissions, and give a receipt.

The plan proposes, a person decides, the box enforces, the receipt tells. `prepare` stops before anything runs,
so that a
terminal or a page can show what is asked for; `carry_out` runs what was agreed; `run` does both unattended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from allmend.verbs.run_asking import Prepared, agreed, prepare
from allmend.verbs.settings import Settings

if TYPE_CHECKING:
    from allmend.box.box import Box
    from allmend.box.environment import Environment
    from allmend.box.job import Job, Later, Progress
    from allmend.box.owner import Operator
    from allmend.box.pool import Pool
    from allmend.box.questions import Ask, Type
    from allmend.box.settings import Settings as BoxSettings
    from allmend.box.web import Web
    from allmend.locking.held import Held
    from allmend.nouns.permissions import Permissions
    from allmend.nouns.receipt import Receipt
    from allmend.verbs.batch import BatchResult

__all__ = ["Prepared", "RunSettings", "agreed", "carry_out", "prepare", "run"]


class RunSettings(Settings):
    """Settings of `run`."""

    parameters: tuple[str, ...] = ()
    """A parameter of the notebook, NAME=VALUE; may be given several times."""
    permissions: Path | None = None
    """The permissions file (TOML). Without it the plan's proposal is shown and asked about."""
    save_permissions: Path | None = None
    """Write the permissions that were agreed to this file."""
    allow: tuple[str, ...] = ()
    """Grant one thing: host:NAME, secret:NAME@HOST, read:PATH, write:FOLDER, output:GLOB, port:N,
    drive:FOLDER, gpu:N, finding:ID."""
    yes: bool = False
    """Grant what is ordinary without asking. Secrets, Drive, accelerators, unknown hosts and dangerous
    findings need --allow or a file."""
    strict: bool = False
    """Refuse to run when the plan holds a dangerous finding, whatever is allowed."""
    check: bool = False
    """Fail when the run did something that its plan does not say (exit code 11)."""
    output: Path | None = None
    """The folder for the executed notebook, the receipt and the outputs; beside the notebook by default."""
    upload: tuple[Path, ...] = ()
    """A file that `files.upload()` hands to the notebook."""
    profile: str = "auto"
    """The packages a notebook starts with: this (this environment's), base, colab, or auto."""
    python: str | None = None
    """The Python version to run it with, like 3.12; it has to be on this machine."""
    keep_going: bool = False
    """Run the cells after one that failed."""
    stay: bool = False
    """Keep the run open after its last cell while the notebook serves pages, until Ctrl-C. In a terminal it does so
    by itself; a batch and Python code never do."""
    trace: bool = False
    """Record every file access through the kernel; exact, but slows file access about tenfold."""
    level: Literal["A", "B"] | None = None
    """Insist on a level of enforcement instead of the best this machine has."""
    unsandboxed: bool = False
    """Run without any protection. The receipt says so."""
    locked: bool = False
    """Hold the run to the notebook's lock: its packages, files, clones and models from the cache, nothing else."""
    batch: Path | None = None
    """Run it once for each row of this table (CSV, TSV or JSON lines of parameters); what finished before is kept."""
    at_once: int = 2
    """Rows of a batch that run together."""


def run(
    notebook: str | Path,
    *,
    parameters: Sequence[str] = (),
    permissions: Path | None = None,
    save_permissions: Path | None = None,
    allow: Sequence[str] = (),
    yes: bool = False,
    strict: bool = False,
    check: bool = False,
    output: Path | None = None,
    upload: Sequence[Path] = (),
    profile: str = "auto",
    python: str | None = None,
    keep_going: bool = False,
    stay: bool = False,
    trace: bool = False,
    level: Literal["A", "B"] | None = None,
    unsandboxed: bool = False,
    locked: bool = False,
    batch: Path | None = None,
    at_once: int = 2,
) -> Receipt | BatchResult:
    """Run a notebook unattended, held to its permissions; returns its receipt, or with `batch` what came of the rows.

    Raises `Refused` naming what is not granted, `DangerousPlan` with `strict`, `Unavailable` where the permissions
    cannot be enforced. A cell that fails is told by the receipt, not raised.
    """
    given = {name: value for name, value in locals().items() if name != "notebook"}
    prepared = prepare(notebook, RunSettings.of(given))
    permissions_agreed = agreed(prepared)
    if batch is not None:
        from allmend.verbs.batch import batch as over_rows

        return over_rows(prepared, permissions_agreed, batch, at_once=at_once)
    return carry_out(prepared, permissions_agreed)


def carry_out(
    prepared: Prepared,
    permissions: Permissions,
    *,
    progress: Progress | None = None,
    ask: Ask | None = None,
    held: Held | None = None,
    box_made: Callable[[Box], None] | None = None,
    web: Web | None = None,
    stay: Callable[[Box, Later], None] | None = None,
    pool: Pool | None = None,
    typed: Type | None = None,
) -> Receipt:
    """Run what was agreed; always leaves the executed notebook and the receipt.

    `box_made` is told the box before anything starts in it: `Box.stop` ends the run from another thread.
    `web` gives web servers of the notebook an address, `stay` keeps the run open for them after its last cell.
    `pool` has kernels that were started ahead. `typed` has a person type a line where a cell calls `input()`.
    `held` is the lock made ready for this run; with a lock and without it, it is made ready here.
    """
    from allmend.box import owner, page
    from allmend.box import run as running
    from allmend.runs import record

    if prepared.lock is not None and held is None:
        from allmend.verbs import held_run

        with held_run.ready(prepared, owner.read(), progress) as held:
            more: dict[str, Any] = {"box_made": box_made, "web": web, "stay": stay, "typed": typed}
            return carry_out(prepared, permissions, progress=progress, ask=ask, held=held, **more)
    settings, document = prepared.settings, prepared.document
    prepared.folder.mkdir(parents=True, exist_ok=True)
    if settings.save_permissions is not None:
        running.write_atomically(settings.save_permissions, permissions.to_toml())
    grants = held.operator if held else owner.read()
    box_settings = _box_settings(prepared, permissions, grants, ask=ask, held=held, web=web is not None, to=progress)
    job = _job(prepared, box_settings, web=web, stay=stay, pool=None if held else pool, typed=typed)
    shown = settings.model_dump(mode="json") | {"parameters": job.parameters}
    with record("run", settings=shown, subject=document.path.name) as made:
        made.input(document.path, sha256=document.sha256)
        made.choice("box level", prepared.level, "; ".join(prepared.why))
        environment = box_settings.environment
        made.choice("profile", environment.profile, f"{prepared.choice.why}; Python {environment.version}")
        if held is not None:
            made.choice("lock", held.digest, "the run is held to it (--locked)")
        hearing = [hear for hear in (held.listen if held else None, box_made) if hear is not None]

        def made_box(box: Box) -> None:
            for hear in hearing:
                hear(box)

        receipt = running.run(job, progress, made_box)
        made.choice("kernel", *job.kernel)
        running.write_atomically(prepared.folder / "receipt.html", page.html(receipt, document.content))
        made.output("executed notebook", job.executed)
        made.output("receipt", job.receipt)
    return receipt


def _job(
    prepared: Prepared,
    box_settings: BoxSettings,
    *,
    web: Web | None,
    stay: Callable[[Box, Later], None] | None,
    pool: Pool | None,
    typed: Type | None,
) -> Job:
    from allmend.box.job import Job
    from allmend.planning.permissions import hosts_of, serving

    document, hosts = prepared.document, hosts_of(prepared.plan)
    return Job(
        notebook=document.content,
        path=document.path.name,
        sha256=document.sha256,
        settings=box_settings,
        executed=prepared.folder / f"{document.path.stem}.ipynb",
        receipt=prepared.folder / "receipt.json",
        parameters={name: _shown(name, value) for name, value in prepared.values.items()},
        plan=prepared.plan,
        planned_hosts=list(hosts),
        serving_hosts=serving(hosts),
        keep_going=prepared.settings.keep_going,
        operator_grants=box_settings.operator.grants,
        web=web,
        stay=stay,
        pool=pool,
        typed=typed,
    )


def make_ready(prepared: Prepared, permissions: Permissions, pool: Pool, *, web: bool) -> None:
    """Have a kernel started ahead for runs of `prepared` with these permissions."""
    from allmend.box import owner

    pool.keep(prepared.document.path.name, _box_settings(prepared, permissions, owner.read(), web=web))


def _box_settings(
    prepared: Prepared,
    permissions: Permissions,
    grants: Operator,
    *,
    ask: Ask | None = None,
    held: Held | None = None,
    web: bool = False,
    to: Progress | None = None,
) -> BoxSettings:
    """What the box is made from; packages that every run of the notebook needs are made ready here."""
    from allmend.box import installing, sets
    from allmend.box.settings import Settings as BoxSettings
    from allmend.planning.permissions import requirements

    document = prepared.document
    environment = held.environment if held else _environment(prepared, grants, to)
    ready = sets.RequirementSet() if held else sets.requirement_set(requirements(prepared.plan), environment, grants)
    for reason in ready.left:
        _noting(to)(f"left to its own cell: {reason}")
    return BoxSettings(
        permissions=permissions,
        environment=environment,
        folder=document.path.resolve().parent,
        level=prepared.level,
        why=prepared.why,
        trace=prepared.settings.trace,
        ask=ask,
        operator=grants,
        colab=document.colab,
        uploads=tuple(prepared.settings.upload),
        uv=held.uv if held else installing.uv_program(),
        below=ready.folders,
        web=web,
        **(held.outside if held else {}),
    )


def _environment(prepared: Prepared, grants: Operator, progress: Progress | None) -> Environment:
    from allmend.box import profiles

    if not profiles.built(prepared.choice, grants):
        profile = prepared.choice.profile
        _noting(progress)(f"the packages of the profile {profile} are fetched first, once for all runs")
    return profiles.environment(prepared.choice, grants)


def _noting(progress: Progress | None) -> Callable[[str], None]:
    from allmend.box.outputs import Shown

    def say(text: str) -> None:
        if progress is not None:
            progress.output(-1, Shown("note", f"allmend: {text}\n"))

    return say


def _shown(name: str, value: Any) -> Any:
    """A parameter's value as records show it: one that its name says is secret is not."""
    return "(not shown)" if re.search(r"key|token|secret|passw|credential", name, re.IGNORECASE) and value else value
