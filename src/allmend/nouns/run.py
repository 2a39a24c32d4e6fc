"""The record of one verb's work: what was set, read, chosen, measured and made."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from allmend.nouns.choice import Choice
from allmend.nouns.noun import Noun, Part

RunState = Literal["running", "done", "failed", "interrupted"]


class RunFile(Part):
    """A file or folder that a run read or made."""

    name: str
    path: str
    sha256: str | None = None
    """None when it was not digested."""


class MetricPoint(Part):
    """One measured value."""

    step: int
    value: float | None
    """None when it was not a finite number."""
    time: datetime


class Metric(Part):
    """A series of measured values, summed up."""

    name: str
    last: float | None
    step: int
    """The step of the last value."""
    least: float | None
    most: float | None
    points: int


class Run(Noun):
    """The record of one run."""

    schema_: Literal["allmend.run/1"] = Field("allmend.run/1", alias="schema")
    id: str
    verb: str
    subject: str | None = None
    """What the verb was about: the data file, the model, the notebook."""
    state: RunState
    """`interrupted`: it was stopped or killed. `running` on another machine is not checked from here."""
    started: datetime
    ended: datetime | None = None
    """None while it runs, and when it was killed."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Without secrets."""
    inputs: list[RunFile] = Field(default_factory=list)
    choices: list[Choice] = Field(default_factory=list)
    metrics: list[Metric] = Field(default_factory=list)
    outputs: list[RunFile] = Field(default_factory=list)
    environment: dict[str, Any] = Field(default_factory=dict)
    folder: str
    error: str | None = None

    def choice(self, name: str) -> Any:
        """The value of the choice `name`, the last when it was made again; None when it was not made."""
        return next((choice.value for choice in reversed(self.choices) if choice.name == name), None)

    def output(self, name: str) -> str | None:
        """The path of the output `name`; None when there is none."""
        return next((file.path for file in reversed(self.outputs) if file.name == name), None)

    def metric(self, name: str) -> Metric | None:
        """The series `name`; None when it was not measured."""
        return next((metric for metric in self.metrics if metric.name == name), None)


class Difference(Part):
    """Something in which two runs differ; a value is None where a run has none."""

    name: str
    first: Any = None
    second: Any = None


class RunComparison(Noun):
    """Two runs side by side: only what differs, and every metric."""

    schema_: Literal["allmend.run-comparison/1"] = Field("allmend.run-comparison/1", alias="schema")
    first: str
    second: str
    run: list[Difference] = Field(default_factory=list)
    """Verb, subject, state, seconds."""
    settings: list[Difference] = Field(default_factory=list)
    inputs: list[Difference] = Field(default_factory=list)
    """By name: digests, or paths where a run has no digest."""
    choices: list[Difference] = Field(default_factory=list)
    metrics: list[Difference] = Field(default_factory=list)
    """The last value of every metric, also of those that agree."""
    environment: list[Difference] = Field(default_factory=list)
