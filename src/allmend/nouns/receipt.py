"""What a notebook did when it ran, by cell, and how that differs from its plan."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from allmend.nouns.noun import Noun, Part

Verdict = Literal["allowed", "denied", "attempted", "stopped", "seen"]
"""`allowed` and `denied` were decided by the box; `attempted` was seen before the kernel decided it; `stopped` was
ended by a limit; `seen` was found afterwards."""

EventKind = Literal[
    "host",
    "dns",
    "connect",
    "program",
    "read",
    "write",
    "secret",
    "drive",
    "port",
    "limit",
    "process",
    "call",
    "output",
]

Ending = Literal[
    "finished",
    "failed",
    "interrupted",
    "time-limit",
    "cell-time-limit",
    "memory-limit",
    "disk-limit",
    "kernel-died",
    "refused",
    "unfinished",
]
"""How a run ended. `unfinished` stands in a receipt whose run is still going, or whose supervisor was killed."""


class Enforcement(Part):
    """How strongly the run was held to its permissions."""

    level: Literal["A", "B", "D"]
    name: Literal["enforced", "enforced-reduced", "none"]
    why: list[str] = Field(default_factory=list)
    landlock_abi: int = 0
    bubblewrap: str | None = None
    cgroup: str = "none"
    uid: int = 0
    """The uid the notebook ran under, as this machine sees it."""
    started_as_root: bool = False
    missing: list[str] = Field(default_factory=list)
    """What this level does not hold, in a person's words."""


class Event(Part):
    """One thing that was attempted, allowed or denied; equal events of one cell are one entry with a count."""

    cell: int
    """0-based index into the notebook's cells; -1 is before the first cell or after the last."""
    kind: EventKind
    target: str
    verdict: Verdict
    count: int = 1
    source: str = "box"
    """Who saw it: `proxy`, `dns`, `kernel` (seccomp), `interpreter` (reported by code inside, can be evaded),
    `files`."""
    detail: str = ""


class HostBytes(Part):
    """Traffic with one real host."""

    host: str
    port: int
    connections: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    operator: bool = False
    """Reached through a grant of this machine's owner (the package index), not of the notebook."""


class FileWritten(Part):
    """A file that exists or changed in the working folder."""

    path: str
    bytes: int
    cell: int
    exported: bool = False
    why_not: str | None = None


class CellRecord(Part):
    """One executed cell."""

    cell: int
    status: Literal["ok", "error", "interrupted", "died", "not-run"]
    seconds: float = 0.0
    error: str | None = None


class LimitRecord(Part):
    """One limit: what was asked for, what holds it."""

    name: str
    value: float
    by: str
    written: bool = False
    """Whether a person wrote it (True) or it is a default."""
    note: str | None = None


class PlanDifference(Part):
    """Where the run and its plan disagree. `not_comparable` lists planned effects that no record can confirm."""

    planned_not_seen: list[str] = Field(default_factory=list)
    seen_not_planned: list[str] = Field(default_factory=list)
    not_comparable: list[str] = Field(default_factory=list)


class Receipt(Noun):
    """The record of one run of one notebook."""

    schema_: Literal["allmend.receipt/1"] = Field("allmend.receipt/1", alias="schema")
    notebook: str
    sha256: str
    started: str
    """ISO 8601, UTC."""
    seconds: float = 0.0
    ended: Ending = "unfinished"
    ended_why: str = ""
    enforcement: Enforcement
    profile: str = ""
    python: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    permissions: dict[str, Any] = Field(default_factory=dict)
    operator_grants: list[str] = Field(default_factory=list)
    """What this machine's owner passed in, outside what the notebook asked: the package index."""
    limits: list[LimitRecord] = Field(default_factory=list)
    cells: list[CellRecord] = Field(default_factory=list)
    events: list[Event] = Field(default_factory=list)
    events_dropped: int = 0
    hosts: list[HostBytes] = Field(default_factory=list)
    files: list[FileWritten] = Field(default_factory=list)
    secrets_used: list[str] = Field(default_factory=list)
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    difference: PlanDifference | None = None
    """None when there was no plan to compare with."""
    not_recorded: list[str] = Field(default_factory=list)
    """What this run's record could not see."""
