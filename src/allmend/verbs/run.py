"""`run`: hold a notebook to its permissions, and give a receipt.

The plan proposes, a person decides, the box enforces, the receipt tells. `prepare` stops before anything runs,
so that a
terminal or a page can show what is asked for; `carry_out` runs what was agreed; `run` does both unattended.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from allmend.errors import DangerousPlan, InputError, NotFound, Refused, UsageError
from allmend.verbs.settings import Settings

if TYPE_CHECKING:
    from allmend.box.box import Box
    from allmend.box.document import Document
    from allmend.box.egress.policy import Ask
    from allmend.box.levels import Level
    from allmend.box.run import Progress
    from allmend.nouns.permissions import Permissions
    from allmend.nouns.plan import Plan
    from allmend.nouns.receipt import Receipt
    from allmend.planning.permissions import Proposed
    from allmend.verbs.batch import BatchResult


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
    keep_going: bool = False
    """Run the cells after one that failed."""
    trace: bool = False
    """Record every file access through the kernel; exact, but slows file access about tenfold."""
    level: Literal["A", "B"] | None = None
    """Insist on a level of enforcement instead of the best this machine has."""
    unsandboxed: bool = False
    """Run without any protection. The receipt says so."""
    batch: Path | None = None
    """Run it once for each row of this table (CSV, TSV or JSON lines of parameters); what finished before is kept."""
    at_once: int = 2
    """Rows of a batch that run together."""


@dataclass
class Prepared:
    """A notebook that was looked at and not run yet."""

    document: Document
    plan: Plan
    permissions: Permissions
    """What was granted by file and by `--allow`."""
    proposals: list[Proposed]
    """What the plan asks for beyond that."""
    level: Level
    why: list[str]
    settings: RunSettings
    folder: Path
    """Where the executed notebook, receipt and outputs will be."""
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def give(self, values: dict[str, Any]) -> None:
        """Set parameters of the notebook, already typed; raises `UsageError` for a name it does not have."""
        from allmend.box.document import with_parameters

        with_parameters(self.document.content, values, self.plan.parameters)
        self.values |= values

    @property
    def careful(self) -> list[Proposed]:
        """The proposals that a person has to grant by name."""
        return [proposed for proposed in self.proposals if proposed.careful]


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
    keep_going: bool = False,
    trace: bool = False,
    level: Literal["A", "B"] | None = None,
    unsandboxed: bool = False,
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


def prepare(notebook: str | Path, settings: RunSettings, plan: Plan | None = None) -> Prepared:
    """Read, plan (unless a plan is given) and check a notebook; runs nothing."""
    from allmend.box import document, levels
    from allmend.nouns.permissions import Permissions
    from allmend.planning.permissions import missing, propose

    path = Path(notebook)
    read = document.read(path)
    if plan is None:
        from allmend.verbs.plan import plan as make_plan

        plan = make_plan(path)
    granted, notes = Permissions(), []
    if settings.permissions is not None:
        granted = _read_permissions(settings.permissions)
        if granted.sha256 not in (None, read.sha256):
            raise Refused(
                "these permissions were written for another version of the notebook",
                where=str(settings.permissions),
                hint="Look at it again with `allmend plan`, then correct or remove sha256 in the file.",
            )
    for grant in settings.allow:
        granted = granted.with_grant(grant)
    if settings.strict:
        _be_strict(plan)
    values = _values(settings.parameters)
    document.with_parameters(read.content, values, plan.parameters)
    folder = settings.output or path.with_name(f"{path.stem}-{'batch' if settings.batch else 'run'}")
    proposals = missing(propose(plan, outputs=str((folder / "outputs").absolute())), granted)
    if settings.permissions is not None:
        # A file is the whole answer: only what it does not forbid by omission and everyone gets is added.
        proposals = [proposed for proposed in proposals if proposed.grant.startswith("finding:")]
    level, why = levels.choose("D" if settings.unsandboxed else settings.level)
    notes += [f"cell {part.cell}: not read ({part.reason})" for part in plan.unread[:5]]
    if level == "B" and _needs_content(read):
        raise Refused(
            "this notebook works in /content, and level B has no folder of that name",
            where=str(path),
            hint=_how_to_get_a(),
        )
    return Prepared(read, plan, granted, proposals, level, why, settings, folder, values, notes)


def agreed(prepared: Prepared, *, asked: bool = False) -> Permissions:
    """The permissions a run goes by.

    `asked` means a person has seen the proposals and said yes to all; otherwise `--yes` grants the ordinary
    ones, and
    anything else that is missing raises `Refused`.
    """
    from allmend.planning.permissions import with_grants

    settings = prepared.settings
    if settings.unsandboxed:
        return prepared.permissions
    open_ones = prepared.careful if not asked else [proposed for proposed in prepared.careful if proposed.incomplete]
    if open_ones:
        shown = "; ".join(f"{proposed.grant} ({proposed.why})" for proposed in open_ones[:8])
        more = f" and {len(open_ones) - 8} more" if len(open_ones) > 8 else ""
        flags = " ".join(f"--allow {proposed.grant}" for proposed in open_ones[:8])
        raise Refused(
            f"it needs permissions that must be granted by name: {shown}{more}",
            hint=f"Add {flags}, or write a permissions file.",
        )
    if not asked and prepared.proposals and not settings.yes and settings.permissions is None:
        shown = ", ".join(proposed.grant for proposed in prepared.proposals[:12])
        raise Refused(
            f"nobody was asked about: {shown}",
            hint="Run it at a terminal, or add --yes, or give --permissions FILE.",
        )
    permissions = with_grants(prepared.permissions, prepared.proposals)
    return permissions.model_copy(update={"notebook": prepared.document.path.name, "sha256": prepared.document.sha256})


def carry_out(
    prepared: Prepared,
    permissions: Permissions,
    *,
    progress: Progress | None = None,
    ask: Ask | None = None,
    box_made: Callable[[Box], None] | None = None,
) -> Receipt:
    """Run what was agreed; always leaves the executed notebook and the receipt.

    `box_made` is told the box before anything starts in it: `Box.stop` ends the run from another thread.
    """
    from allmend.box import owner, page, profiles
    from allmend.box import run as running
    from allmend.box.box import Settings as BoxSettings
    from allmend.planning.permissions import hosts_of, requirements
    from allmend.runs import record

    settings, document = prepared.settings, prepared.document
    prepared.folder.mkdir(parents=True, exist_ok=True)
    if settings.save_permissions is not None:
        running.write_atomically(settings.save_permissions, permissions.to_toml())
    grants = owner.read()
    for file in settings.upload:
        if not file.is_file():
            raise NotFound("there is no such file to upload", where=str(file))
    environment = profiles.environment(settings.profile, document, grants)
    job = running.Job(
        notebook=document.content,
        path=document.path.name,
        sha256=document.sha256,
        settings=BoxSettings(
            permissions=permissions,
            environment=environment,
            folder=document.path.resolve().parent,
            level=prepared.level,
            why=prepared.why,
            trace=settings.trace,
            ask=ask,
            operator=grants,
            colab=document.colab,
            uploads=tuple(settings.upload),
            uv=profiles.uv_program(),
            below=profiles.requirement_set(requirements(prepared.plan), environment, grants),
        ),
        executed=prepared.folder / f"{document.path.stem}.ipynb",
        receipt=prepared.folder / "receipt.json",
        parameters={name: _shown(name, value) for name, value in prepared.values.items()},
        plan=prepared.plan,
        planned_hosts=list(hosts_of(prepared.plan)),
        keep_going=settings.keep_going,
        operator_grants=grants.grants,
    )
    shown = settings.model_dump(mode="json") | {"parameters": job.parameters}
    with record("run", settings=shown, subject=document.path.name) as made:
        made.input(document.path, sha256=document.sha256)
        made.choice("box level", prepared.level, "; ".join(prepared.why))
        made.choice("profile", environment.profile, f"Python {environment.version}")
        receipt = running.run(job, progress, box_made)
        running.write_atomically(prepared.folder / "receipt.html", page.html(receipt, document.content))
        made.output("executed notebook", job.executed)
        made.output("receipt", job.receipt)
    return receipt


def _shown(name: str, value: Any) -> Any:
    """A parameter's value as records show it: one that its name says is secret is not."""
    return "(not shown)" if re.search(r"key|token|secret|passw|credential", name, re.IGNORECASE) and value else value


def _values(texts: Sequence[str]) -> dict[str, Any]:
    from allmend.box.document import value_of

    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r}: write a parameter as NAME=VALUE", where="-p")
        values[name.strip()] = value_of(value)
    return values


def _read_permissions(path: Path) -> Permissions:
    from allmend.nouns.permissions import Permissions

    try:
        return Permissions.from_toml(path.read_text(), where=str(path))
    except FileNotFoundError:
        raise NotFound("there is no such permissions file", where=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"it cannot be read ({error})", where=str(path)) from None


def _be_strict(plan: Plan) -> None:
    dangers = [finding for finding in plan.findings if finding.severity == "danger"]
    if dangers:
        shown = "; ".join(f"{finding.title} (cells {', '.join(map(str, finding.cells))})" for finding in dangers[:5])
        raise DangerousPlan(
            f"the plan holds a dangerous finding: {shown}", where=plan.subject.path, hint=dangers[0].fix
        )


def _needs_content(document: Document) -> bool:
    return any("/content" in cell["source"] for cell in document.content["cells"] if cell["cell_type"] == "code")


def _how_to_get_a() -> str:
    from allmend.box.probe import probe

    return f"It needs level A. {probe().how_to_get_a()}"


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as receipts and permissions name it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
