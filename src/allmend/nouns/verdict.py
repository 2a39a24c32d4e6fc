"""Base against tuned on rows neither training nor selection saw."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from allmend.nouns.noun import Noun, Part

Words = Literal["better", "not shown to be better", "worse"]


class Measure(Part):
    """One metric, for base and tuned on the same rows."""

    name: str
    """`accuracy`, `macro_f1`, `exact_match`, `loss` …"""
    base: float
    tuned: float
    difference: float
    """tuned - base."""
    low: float | None = None
    """Lower end of the interval of the difference; None where no interval is made for this metric."""
    high: float | None = None
    rows: int
    higher_is_better: bool = True
    how: str = ""
    """How it was measured, in a sentence."""


class ChangedRow(Part):
    """A row that base and tuned answer differently, and one of them rightly."""

    place: str
    prompt: str
    """Shortened."""
    expected: str
    base: str
    tuned: str


class Verdict(Noun):
    """Whether the tuned model is better than the one it started from: in words, with the interval they rest on."""

    schema_: Literal["allmend.verdict/1"] = Field("allmend.verdict/1", alias="schema")
    words: Words
    metric: str
    """The metric the words are about."""
    measures: list[Measure]
    confidence: float = 0.95
    interval: str = "paired bootstrap"
    p_value: float | None = None
    """McNemar's exact test, for labels."""
    held_out_rows: int
    gained: int = 0
    """Rows that base got wrong and tuned gets right."""
    lost: int = 0
    """Rows that base got right and tuned gets wrong."""
    gained_examples: list[ChangedRow] = Field(default_factory=list)
    lost_examples: list[ChangedRow] = Field(default_factory=list)
    model: str
    adapter: str
    template: str
    data: str
    run: str | None = None
    rows_needed: int | None = None
    """Where the rows are too few to tell: about how many would show a difference of this size."""
    notes: list[str] = Field(default_factory=list)
    """What was not done, or should be known when reading this."""

    @property
    def main(self) -> Measure:
        """The measure that the words are about."""
        return next(measure for measure in self.measures if measure.name == self.metric)
