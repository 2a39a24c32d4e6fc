"""What a notebook, script, folder, model or adapter would do, said before it does it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from allmend.nouns.noun import Noun, Part

EffectKind = Literal[
    "install",
    "clone",
    "download",
    "model",
    "dataset",
    "foreign_code",
    "credential",
    "send",
    "personal_files",
    "serve",
    "unpickle",
    "dynamic_code",
    "destructive",
    "process",
    "hardware",
    "hidden_code",
]
"""The closed list of effect kinds (`docs/plan.md` explains each)."""

Certainty = Literal["exact", "derived", "unknown"]
Severity = Literal["danger", "warning", "note"]


class Subject(Part):
    """What was planned."""

    kind: Literal["notebook", "script", "folder", "model", "adapter"]
    path: str
    sha256: str
    cells: int = 0
    language: str = "python"
    kernel: str | None = None


class Effect(Part):
    """One thing that running the subject would do."""

    kind: EffectKind
    target: str
    cell: int
    """0-based index into the notebook's cells of any type; -1 is the notebook's own metadata."""
    line: int
    """1-based line in that cell."""
    certainty: Certainty = "exact"
    reason: str | None = None
    """Why the target could not be worked out, when `certainty` is unknown."""
    evidence: str = ""
    """The source line it was read from, shortened."""
    detail: dict[str, Any] = Field(default_factory=dict)


class HostUse(Part):
    """A host that the subject would talk to."""

    host: str
    """A name, or `*.name` for every name below it."""
    family: str | None = None
    for_: list[str] = Field(default_factory=list, alias="for")
    """What for: targets of the effects that need it."""


class FormParameter(Part):
    """A form field of a notebook, typed."""

    name: str
    type: str
    default: Any = None
    choices: list[Any] | None = None
    allow_input: bool = False
    template: bool = False
    """Colab's `isTemplate`: the value is put into the text of the cell, not only into a variable."""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    section: str | None = None
    description: str | None = None
    cell: int = 0
    line: int = 1


class Needs(Part):
    """What it needs of a machine, and whether this one has it."""

    accelerator: str | None = None
    gpu_type: str | None = None
    memory_bytes: int | None = None
    weights_bytes: int | None = None
    """Weights whose size their names say."""
    install_bytes: int | None = None
    """Packages whose installed size is known, without their dependencies."""
    data_bytes: int | None = None
    """Data sets whose size their catalogue states."""
    disk_bytes: int | None = None
    """The sum of what is known; never more than a lower bound while `unknown_sizes` is not 0."""
    unknown_sizes: int = 0
    """Installs, weights, data sets and downloads of which no size is known."""
    fetch_seconds: int | None = None
    """Fetching what is known, at the rate that `computed_from` names. How long the code runs is not estimated."""
    computed_from: list[str] = Field(default_factory=list)
    """What each number was worked out from."""
    fits: bool | None = None
    """None when it could not be worked out."""
    why: list[str] = Field(default_factory=list)
    """One sentence a reason: what is missing, and what would do."""


class Finding(Part):
    """A combination of effects worth stopping for."""

    id: str
    severity: Severity
    title: str
    cells: list[int] = Field(default_factory=list)
    lines: list[tuple[int, int]] = Field(default_factory=list)
    """(cell, line) places, most telling first."""
    why: str
    fix: str


class Unread(Part):
    """What was not read, and why. Not checked is never clean."""

    cell: int
    reason: str


class Plan(Noun):
    """What running `subject` would do, in a stable order: the same bytes for the same subject."""

    schema_: Literal["allmend.plan/1"] = Field("allmend.plan/1", alias="schema")
    subject: Subject
    effects: list[Effect] = Field(default_factory=list)
    hosts: list[HostUse] = Field(default_factory=list)
    parameters: list[FormParameter] = Field(default_factory=list)
    needs: Needs = Field(default_factory=Needs)
    findings: list[Finding] = Field(default_factory=list)
    unread: list[Unread] = Field(default_factory=list)
    totals: dict[str, int] = Field(default_factory=dict)
