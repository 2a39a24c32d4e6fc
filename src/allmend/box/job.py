"""One notebook to run in a box, and who hears how that goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from allmend.box.execute import Outcome
from allmend.box.outputs import Shown
from allmend.box.pool import Pool
from allmend.box.questions import Type
from allmend.box.settings import Settings
from allmend.box.web import Web
from allmend.nouns.plan import Plan
from allmend.nouns.receipt import CellRecord

if TYPE_CHECKING:
    from allmend.box.box import Box


class Progress(Protocol):
    """Hears how a run goes; the command line and a page each have one.

    One that answers questions may also have `ending()`, called from any thread when the run ends: whoever still waits
    for an answer stops waiting.
    """

    def cell_started(self, cell: int, source: str) -> None:
        """A code cell begins."""

    def output(self, cell: int, shown: Shown) -> None:
        """A piece of output of the running cell."""

    def cell_ended(self, record: CellRecord) -> None:
        """A code cell has ended."""


class Silent:
    """Progress that nobody watches."""

    def cell_started(self, cell: int, source: str) -> None:
        """Nothing."""

    def output(self, cell: int, shown: Shown) -> None:
        """Nothing."""

    def cell_ended(self, record: CellRecord) -> None:
        """Nothing."""


Later = Callable[[int, str], Outcome]
"""Runs code for a cell after the last one; what it puts out joins the cell's outputs, but for its value."""


@dataclass
class Job:
    """One notebook to run."""

    notebook: dict[str, Any]
    """nbformat 4; its outputs are replaced."""
    path: str
    sha256: str
    settings: Settings
    executed: Path
    """Where the executed notebook is written."""
    receipt: Path
    """Where the receipt is written (JSON)."""
    parameters: dict[str, Any] = field(default_factory=dict)
    plan: Plan | None = None
    planned_hosts: list[str] = field(default_factory=list)
    """Hosts the plan needs beyond those it lists by name."""
    serving_hosts: list[str] = field(default_factory=list)
    """Hosts that serve files for those the plan needs; met or not, they are as planned."""
    keep_going: bool = False
    """Run the cells after one that failed."""
    operator_grants: list[str] = field(default_factory=list)
    skip: frozenset[int] = frozenset()
    web: Web | None = None
    """Is told of web servers that the notebook starts."""
    stay: Callable[[Box, Later], None] | None = None
    """Called when every cell ran: returns when the notebook's web servers and what its outputs call, if there are any,
    are no longer wanted."""
    pool: Pool | None = None
    """Kernels started ahead."""
    typed: Type | None = None
    """Has a person type a line for `input()`; without it `input()` fails."""
    kernel: tuple[str, str] = ("started", "for this run")
    """Where the kernel came from, and why; known when the run has begun."""
