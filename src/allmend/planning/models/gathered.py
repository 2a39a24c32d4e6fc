"""What is gathered of one model or adapter while its files are read, and the plan that comes of it."""

from __future__ import annotations

import hashlib
from typing import Any

from allmend.nouns.plan import Effect, Finding, Needs, Plan, Subject, Unread
from allmend.planning.hosts import hosts_of
from allmend.planning.needs import memory_here


class Gathered:
    """What is gathered of one model."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.kind: str = "model"
        self.effects: list[Effect] = []
        self.findings: list[Finding] = []
        self.unread: list[Unread] = []
        self.why: list[str] = []
        self.parameters = 0
        self.size = 0
        self.digest = hashlib.sha256()
        self.base: str | None = None

    def effect(self, kind: str, target: str, **detail: Any) -> None:
        """One effect; models have no cells, so the cell is -1."""
        self.effects.append(Effect(kind=kind, target=target, cell=-1, line=1, certainty="exact", detail=detail))

    def finding(self, name: str, severity: str, title: str, why: str, fix: str) -> None:
        """One finding."""
        self.findings.append(Finding(id=name, severity=severity, title=title, why=why, fix=fix))

    def skip(self, reason: str) -> None:
        """Something that was not read."""
        self.unread.append(Unread(cell=-1, reason=reason))

    def plan(self) -> Plan:
        """The plan."""
        order = {"danger": 0, "warning": 1, "note": 2}
        totals: dict[str, int] = {}
        for effect in self.effects:
            totals[effect.kind] = totals.get(effect.kind, 0) + 1
        return Plan(
            subject=Subject(kind=self.kind, path=self.path, sha256=self.digest.hexdigest(), language="none"),
            effects=sorted(self.effects, key=lambda e: (e.kind, e.target)),
            hosts=hosts_of(self.effects),
            needs=self._needs(),
            findings=sorted(self.findings, key=lambda f: (order[f.severity], f.id)),
            unread=self.unread,
            totals=dict(sorted(totals.items())),
        )

    def _needs(self) -> Needs:
        memory = None
        fits: bool | None = None
        why = list(self.why)
        if self.parameters:
            sizes = ", ".join(
                f"{name} {_gib(self.parameters * width)}"
                for name, width in (("fp32", 4), ("bf16", 2), ("8 bit", 1.06), ("4 bit", 0.6))
            )
            count = f"{self.parameters / 1e6:,.0f} million" if self.parameters >= 10**6 else f"{self.parameters:,}"
            why.insert(0, f"{count} parameters; memory for the weights: {sizes}.")
            memory = int(min(self.parameters * 2, max(self.size, 1) if self.size else self.parameters * 2) * 1.2)
            here = memory_here()
            fits = memory <= here if here else None
            if fits is False:
                why.append(f"This machine has {_gib(here)} of memory.")
        elif self.size:
            memory, fits = int(self.size * 1.2), self.size * 1.2 <= memory_here() if memory_here() else None
        return Needs(memory_bytes=memory, disk_bytes=self.size or None, fits=fits, why=why)


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"
