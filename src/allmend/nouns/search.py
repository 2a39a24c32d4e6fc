"""A search over settings: its trials, what each rung measured, what was stopped and why, what the budget bought."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from allmend.nouns.noun import Noun, Part

TrialState = Literal["waiting", "running", "paused", "stopped", "diverged", "failed", "finished"]


class Point(Part):
    """The settings that a trial tries."""

    learning_rate: float
    rank: int
    batch: int
    epochs: float
    """At most this many passes over the training rows."""


class Measured(Part):
    """The selection loss at one point of a trial."""

    rows: int
    """Training rows seen by then."""
    step: int
    loss: float | None
    """Per learned token, on the selection rows; None when it was not a finite number."""


class Trial(Part):
    """One setting's training, as far as it came."""

    number: int
    point: Point
    bracket: int = 0
    state: TrialState = "waiting"
    why: str = ""
    """Why it ended where it did."""
    rung: int = -1
    """The last rung it reached the end of; -1 before the first."""
    step: int = 0
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0
    curve: tuple[Measured, ...] = ()
    losses: tuple[float, ...] = ()
    """Training loss, averaged down to at most 64 numbers."""
    adapter: str | None = None
    """Folder of its adapter, where it was left: the best of it."""
    worker: str = ""

    @property
    def score(self) -> float | None:
        """The last selection loss: what trials are compared by."""
        return self.curve[-1].loss if self.curve else None

    @property
    def best(self) -> float | None:
        """The lowest selection loss."""
        return min((one.loss for one in self.curve if one.loss is not None), default=None)


class Rung(Part):
    """A comparison: so many trials have each seen so many rows."""

    bracket: int
    number: int
    trials: int
    rows: int


class RowsMeasured(Part):
    """The winner's setting trained on part of the rows."""

    rows: int
    loss: float
    """On the selection rows."""
    low: float | None = None
    """Lower end of the interval of the change from the row before."""
    high: float | None = None


class Search(Noun):
    """The record of a search; kept in the run's folder, and what a stopped search goes on from."""

    schema_: Literal["allmend.search/1"] = Field("allmend.search/1", alias="schema")
    run: str
    train_rows: int
    select_rows: int
    """Rows that decide between trials; never trained on, never judged on."""
    eta: int = 3
    rungs: tuple[Rung, ...] = ()
    """As planned, and from the second rung on as it was fitted to what was measured."""
    trials: tuple[Trial, ...] = ()
    winner: int | None = None
    """Number of the trial whose adapter is the best so far."""
    seconds: float = 0.0
    """Spent on trials, over all sittings."""
    storage: str | None = None
    """Optuna's storage (SQLite), which any Optuna opens."""
    learning_curve: tuple[RowsMeasured, ...] = ()
    sentence: str = ""
    """What the budget bought, in words."""
    more_data: str = ""
    """What more rows would probably bring, in words; empty where it was not measured."""

    def trial(self, number: int) -> Trial:
        """The trial of that number."""
        return next(trial for trial in self.trials if trial.number == number)
