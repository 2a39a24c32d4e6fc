"""How a verb tells whoever is waiting what it does: the terminal draws it, a page streams it, Python ignores it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allmend.nouns.choice import Choice
    from allmend.nouns.data_report import DataReport
    from allmend.nouns.model import Model
    from allmend.nouns.search import Search
    from allmend.tuning.loop import Step


class Watch:
    """Nobody watches: every method does nothing. Surfaces override what they show."""

    def stage(self, text: str) -> None:
        """A new stage of the work begins."""

    def note(self, text: str) -> None:
        """Something worth knowing: a fall-back, what was reused, what was not done."""

    def amount(self, what: str, done: int, total: int) -> None:
        """`done` of `total` bytes or parts of `what`."""

    def model(self, model: Model) -> None:
        """The model that was found, with its licence."""

    def choice(self, choice: Choice) -> None:
        """An automatic choice."""

    def data(self, report: DataReport) -> None:
        """What the data check found."""

    def step(self, step: Step) -> None:
        """A training step is done."""

    def search(self, search: Search) -> None:
        """A search has changed: a step, a measurement, a trial that ended."""


SILENT = Watch()
"""The watch that nobody watches."""
