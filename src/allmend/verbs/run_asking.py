"""What a notebook asks for before it runs, and what a person has granted of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allmend.errors import DangerousPlan, InputError, NotFound, Refused, UsageError

if TYPE_CHECKING:
    from allmend.box.document import Document
    from allmend.box.levels import Level
    from allmend.box.profiles import Choice
    from allmend.nouns.lock import Lock
    from allmend.nouns.permissions import Permissions
    from allmend.nouns.plan import Plan
    from allmend.nouns.receipt import LimitRecord
    from allmend.planning.permissions import Proposed
    from allmend.verbs.run import RunSettings


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
    choice: Choice
    """The packages it starts with."""
    limits: list[LimitRecord]
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lock: Lock | None = None
    """What the run is held to, with `--locked`."""

    def give(self, values: dict[str, Any]) -> None:
        """Set parameters of the notebook, already typed; raises `UsageError` for a name it does not have."""
        from allmend.box.document import with_parameters

        with_parameters(self.document.content, values, self.plan.parameters)
        self.values |= values

    @property
    def careful(self) -> list[Proposed]:
        """The proposals that a person has to grant by name."""
        return [proposed for proposed in self.proposals if proposed.careful and not proposed.optional]

    @property
    def optional(self) -> list[Proposed]:
        """What it may do without: granted by a person who was asked, otherwise only by name."""
        return [proposed for proposed in self.proposals if proposed.optional]


def prepare(notebook: str | Path, settings: RunSettings, plan: Plan | None = None) -> Prepared:
    """Read, plan (unless a plan is given) and check a notebook; runs nothing."""
    from allmend.box import document, levels, named, profiles
    from allmend.nouns.permissions import Permissions
    from allmend.planning.permissions import Proposed, missing, propose

    path = Path(notebook)
    read = document.read(path)
    for file in settings.upload:
        if not file.is_file():
            raise NotFound("there is no such file to upload", where=str(file))
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
    beside = [Proposed(f"read:{name}", "lies beside it", careful=True, optional=True) for name in named.files(read)]
    proposals = missing([*propose(plan, outputs=str((folder / "outputs").absolute())), *beside], granted)
    if settings.permissions is not None:
        # A file is the whole answer: only what it does not forbid by omission and everyone gets is added.
        proposals = [proposed for proposed in proposals if proposed.grant.startswith("finding:")]
    if not Path("/dev/nvidiactl").exists():
        wanted = any(proposed.grant.startswith("gpu:") for proposed in proposals)
        proposals = [proposed for proposed in proposals if not proposed.grant.startswith("gpu:")]
        notes += ["it wants an accelerator, and this machine has none that could be granted"] if wanted else []
    level, why = levels.choose("D" if settings.unsandboxed else settings.level)
    notes += [f"cell {part.cell}: not read ({part.reason})" for part in plan.unread[:5]]
    if level == "B" and _needs_content(read):
        raise Refused(
            "this notebook works in /content, and level B has no folder of that name",
            where=str(path),
            hint=_how_to_get_a(),
        )
    installs = [effect.target.partition(":")[2] for effect in plan.effects if effect.kind == "install"]
    if settings.locked:
        choice = profiles.Choice("locked", None, "held to its lock")
    else:
        choice = profiles.choose(settings.profile, read, settings.python or granted.python, installs)
    held = _limits(granted, level)
    prepared = Prepared(read, plan, granted, proposals, level, why, settings, folder, choice, held, values, notes)
    if not settings.locked:
        return prepared
    from allmend.verbs import held_run

    return held_run.hold(prepared)


def _limits(granted: Permissions, level: Level) -> list[LimitRecord]:
    """The limits as they will hold; raises `Unavailable` before anybody is asked when one cannot be kept."""
    import tempfile

    from allmend.box import limits
    from allmend.box.probe import probe

    machine, scratch = probe(), Path(tempfile.gettempdir())
    return limits.settle(granted.limits, cgroup=machine.cgroup, level=level, root=machine.root, scratch=scratch).records


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
    open_ones = [proposed for proposed in prepared.careful if proposed.incomplete or not asked]
    ordinary = [proposed for proposed in prepared.proposals if not proposed.careful]
    unasked = not asked and not settings.yes and settings.permissions is None
    if open_ones:
        shown = "; ".join(f"{proposed.grant} ({proposed.why})" for proposed in open_ones[:8])
        more = f" and {len(open_ones) - 8} more" if len(open_ones) > 8 else ""
        flags = " ".join(f"--allow {proposed.grant}" for proposed in open_ones[:8])
        raise Refused(
            f"it needs permissions that must be granted by name: {shown}{more}",
            hint=f"Add {'--yes ' if unasked and ordinary else ''}{flags}, or write a permissions file.",
        )
    if unasked and ordinary:
        shown = ", ".join(proposed.grant for proposed in ordinary[:12])
        raise Refused(
            f"nobody was asked about: {shown}",
            hint="Run it at a terminal, or add --yes, or give --permissions FILE.",
        )
    granted = prepared.proposals if asked else [*ordinary, *(p for p in prepared.careful if not p.incomplete)]
    permissions = with_grants(prepared.permissions, granted)
    return permissions.model_copy(update={"notebook": prepared.document.path.name, "sha256": prepared.document.sha256})


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
