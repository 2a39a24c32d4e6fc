"""From what a session collected to a `Plan`."""

from __future__ import annotations

from collections import Counter

from allmend.notebooks.parameters import parameters
from allmend.nouns.notebook import Notebook
from allmend.nouns.plan import Plan, Subject
from allmend.planning.session import Session


def plan_notebook(notebook: Notebook, *, path: str, kind: str = "notebook", files: dict[str, str] | None = None) -> Plan:
    """The plan of a notebook that has been read; `files` are texts that lie beside it, by path."""
    session = Session(notebook, files=files)
    session.read()
    return finished(session, path=path, kind=kind)


def finished(session: Session, *, path: str, kind: str) -> Plan:
    """The plan of what `session` has read."""
    notebook = session.notebook
    for problem in notebook.problems:
        session.unread(problem, -1)
    effects = session.record.effects()
    if session.record.full:
        session.unread("there are more effects than are listed", -1)
    subject = Subject(
        kind=kind,  # type: ignore[arg-type]
        path=path, sha256=notebook.sha256, cells=len(notebook.cells), language=notebook.language, kernel=notebook.kernel,
    )  # fmt: skip
    counts = Counter(effect.kind for effect in effects)
    return Plan.model_construct(
        schema_="allmend.plan/1",
        subject=subject,
        effects=effects,
        hosts=[],
        parameters=notebook.parameters or parameters(notebook.cells),
        findings=[],
        unread=sorted(session.unreads, key=lambda item: (item.cell, item.reason)),
        totals=dict(sorted(counts.items())),
    )
