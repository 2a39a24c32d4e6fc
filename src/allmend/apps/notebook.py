"""One notebook that is served: its words, its form, its plan, and how a run of it is started."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from allmend.apps.parameters import settable

if TYPE_CHECKING:
    from allmend.apps.serving import RunServers
    from allmend.box.box import Box
    from allmend.box.job import Later
    from allmend.nouns.permissions import Permissions
    from allmend.nouns.plan import FormParameter, Plan
    from allmend.nouns.receipt import CellRecord, Receipt


class Hears(Protocol):
    """Hears how a run goes: cells by number, output as plain text."""

    def cell_started(self, cell: int, source: str) -> None:
        """A code cell begins."""

    def output(self, cell: int, text: str) -> None:
        """A piece of output of the running cell."""

    def cell_ended(self, record: CellRecord, outputs: list[dict[str, Any]]) -> None:
        """A code cell has ended with these nbformat 4 outputs."""

    def ending(self) -> None:
        """The run ends now: nobody waits for an answer any more."""


@dataclass(frozen=True)
class Task:
    """One run to be carried out."""

    values: dict[str, Any]
    """Parameters, checked."""
    uploads: tuple[Path, ...]
    """Files that `files.upload()` hands over, in order."""
    folder: Path
    """Where the executed notebook, the receipt and the outputs go."""
    hears: Hears
    ask: Callable[[str, str], bool] | None
    """Asks a person about something not permitted, while the cell waits; None refuses it."""
    typed: Callable[[str, bool], str | None]
    """Has a person type a line for `input()` (prompt, hidden); None when nobody did."""
    stopper: Callable[[Callable[[], None]], None]
    """Is told once how the run can be stopped."""
    stay: Callable[[Box, Later], None]
    """Keeps the run open after its last cell for as long as somebody uses what it shows."""
    web: RunServers | None = None
    """Gives web servers of the notebook an address; None shows none."""


Runner = Callable[[Task], "Receipt"]
"""Runs a notebook once, held to its permissions; raises `AllmendError` where it cannot begin."""


@dataclass(frozen=True)
class NotebookApp:
    """A notebook as it is served."""

    slug: str
    """Its part of the address."""
    path: Path
    cells: list[dict[str, Any]]
    plan: Plan
    permissions: Permissions
    level: str
    """The enforcement level its runs will have."""
    run: Runner
    looked_at: Callable[[], None] = lambda: None
    """Told when somebody opens the page: a run may follow."""
    parameters: list[FormParameter] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", settable(self.plan.parameters))

    @property
    def sha256(self) -> str:
        """The digest of the notebook that was planned."""
        return self.plan.subject.sha256

    @property
    def title(self) -> str:
        """The first heading, else the file's name."""
        for cell in self.cells:
            if cell["cell_type"] == "markdown":
                found = re.search(r"^#{1,3}\s+(.+?)\s*#*$", cell["source"], re.MULTILINE)
                if found:
                    return re.sub(r"<[^>]{0,200}>|[*_`]|\[([^\]]*)\]\([^)]*\)", r"\1", found[1]).strip()[:200]
        return self.path.stem.replace("_", " ")

    @property
    def code_cells(self) -> list[int]:
        """The numbers of the cells that run."""
        return [n for n, cell in enumerate(self.cells) if cell["cell_type"] == "code" and cell["source"].strip()]

    @property
    def takes_files(self) -> bool:
        """Whether it asks for files of the person running it."""
        return any(effect.kind == "personal_files" and effect.target == "upload" for effect in self.plan.effects)


def slugs(paths: Iterable[Path]) -> dict[Path, str]:
    """A short, distinct part of an address for each path."""
    made: dict[Path, str] = {}
    for path in paths:
        base = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:60] or "notebook"
        slug, number = base, 2
        while slug in made.values() or slug in ("assets", "api", "health"):
            slug, number = f"{base}-{number}", number + 1
        made[path] = slug
    return made
