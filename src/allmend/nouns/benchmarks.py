"""Standard benchmarks: scenario by metric, over several models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from allmend.nouns.noun import Noun, Part


class Scenario(Part):
    """One benchmark on one set of rows."""

    name: str
    rows: int
    few_shot: int
    source: str
    """The package and version the rows come from, with their licence."""
    note: str = ""
    """Where the rows or the prompt differ from those of published figures."""


class Score(Part):
    """One figure of the table."""

    scenario: str
    metric: str
    model: str
    value: float
    error: float | None = None
    """Standard error over rows, as lm-eval gives it."""
    low: float | None = None
    """Interval of the difference to the first model on the same rows; None for the first model itself."""
    high: float | None = None
    difference: float | None = None
    adjusted_p_value: float | None = None
    """Holm's, over all comparisons of the table."""


class Benchmarks(Noun):
    """The table."""

    schema_: Literal["allmend.benchmarks/1"] = Field("allmend.benchmarks/1", alias="schema")
    models: list[str]
    scenarios: list[Scenario]
    scores: list[Score]
    confidence: float = 0.95
    harness: str
    """The library and version that asked and scored."""
    notes: list[str] = Field(default_factory=list)

    def score(self, scenario: str, metric: str, model: str) -> Score | None:
        """One figure; None when it was not measured."""
        wanted = (scenario, metric, model)
        return next((s for s in self.scores if (s.scenario, s.metric, s.model) == wanted), None)
