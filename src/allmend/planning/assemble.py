"""From what a session collected to a `Plan`."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Literal

from allmend.notebooks.parameters import parameters
from allmend.nouns.notebook import Notebook
from allmend.nouns.plan import Effect, Plan, Subject, Unread
from allmend.planning.findings import find
from allmend.planning.hosts import hosts_of
from allmend.planning.needs import needs_of
from allmend.planning.session import Reader, Session

Kind = Literal["notebook", "script", "folder", "model", "adapter"]


def plan_notebook(notebook: Notebook, *, path: str, kind: Kind = "notebook", reader: Reader | None = None) -> Plan:
    """The plan of a notebook that has been read; `reader` gives the texts of foreign scripts that are at hand."""
    session = Session(notebook, reader=reader)
    session.read()
    for problem in notebook.problems:
        session.unread(problem, -1)
    if session.record.full:
        session.unread("there are more effects than are listed", -1)
    subject = Subject(
        kind=kind, path=path, sha256=notebook.sha256, cells=len(notebook.cells), language=notebook.language,
        kernel=notebook.kernel,
    )  # fmt: skip
    effects = session.record.effects()
    return Plan(
        subject=subject,
        effects=effects,
        hosts=hosts_of(effects),
        parameters=notebook.parameters or parameters(notebook.cells),
        needs=needs_of(effects),
        findings=find(effects, notebook),
        unread=sorted(session.unreads, key=lambda item: (item.cell, item.reason)),
        totals=_totals(effects),
    )


def _totals(effects: list[Effect]) -> dict[str, int]:
    return dict(sorted(Counter(effect.kind for effect in effects).items()))


def merge(parts: list[tuple[str, Plan]], *, path: str, unread: list[Unread] | None = None) -> Plan:
    """One plan of a folder: the effects of its files, each with the file in its detail. Cells count within a file."""
    effects = [
        effect.model_copy(update={"detail": {**effect.detail, "file": name}})
        for name, plan in parts
        for effect in plan.effects
    ]
    digest = hashlib.sha256()
    for name, plan in parts:
        digest.update(f"{name}\0{plan.subject.sha256}\n".encode())
    findings = [
        finding.model_copy(update={"title": f"{name}: {finding.title}"})
        for name, plan in parts
        for finding in plan.findings
    ]
    order = {"danger": 0, "warning": 1, "note": 2}
    missed = [Unread(cell=item.cell, reason=f"{name}: {item.reason}") for name, plan in parts for item in plan.unread]
    return Plan(
        subject=Subject(
            kind="folder", path=path, sha256=digest.hexdigest(), cells=sum(plan.subject.cells for _, plan in parts)
        ),
        effects=effects,
        hosts=hosts_of(effects),
        parameters=[parameter for _, plan in parts for parameter in plan.parameters],
        needs=needs_of(effects),
        findings=sorted(findings, key=lambda item: order[item.severity]),
        unread=[*missed, *(unread or [])],
        totals=_totals(effects),
    )
