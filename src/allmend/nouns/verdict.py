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
    p_value: float | None = None
    """Of no difference, two-sided: McNemar's exact test where rows are right or wrong, else of the interval's kind."""
    few_shot: float | None = None
    """The untuned model with examples in its prompt, on `few_shot_rows` of the rows."""
    few_shot_rows: int | None = None
    over_few_shot: float | None = None
    """tuned - few_shot on those rows, with its interval."""
    over_few_shot_low: float | None = None
    over_few_shot_high: float | None = None
    failed: int = 0
    """Rows that the metric gave no number for; they are left out, and the first of them named in `faults`."""
    faults: list[str] = Field(default_factory=list)


class ChangedRow(Part):
    """A row that base and tuned answer differently, one of them better."""

    place: str
    prompt: str
    """Shortened."""
    expected: str
    base: str
    tuned: str


class NormResult(Part):
    """One case of the owner's norms, for both models."""

    name: str
    kind: Literal["must", "must_not"]
    how: str
    """By what it was decided: a pattern, a function, a judge."""
    asked: int
    """Answers looked at."""
    base_held: int
    tuned_held: int
    undecided: int = 0
    """Answers of the tuned model that could not be decided; they count as not held."""
    broken: list[ChangedRow] = Field(default_factory=list)
    """The first answers of the tuned model that break it; `expected` is the norm."""

    @property
    def holds(self) -> bool:
        """Whether every answer of the tuned model keeps it."""
        return self.tuned_held == self.asked


class Norms(Part):
    """What the owner's norms came to."""

    file: str
    sha256: str
    results: list[NormResult]

    @property
    def broken(self) -> list[NormResult]:
        """The cases that the tuned model breaks."""
        return [result for result in self.results if not result.holds]


class Forgetting(Part):
    """What the model could do before and what of it is left."""

    measures: list[Measure]
    """`general_loss` on a sample of general text, `probes` right of a fixed set of questions."""
    words: Literal["nothing shown to be lost", "some was lost"]
    sources: list[str]
    """Packages the text comes from."""
    lost: list[ChangedRow] = Field(default_factory=list)
    """Probes that only the untuned model answers rightly."""


class Verdict(Noun):
    """Whether the tuned model is better than the one it started from: in words, with the interval they rest on."""

    schema_: Literal["allmend.verdict/1"] = Field("allmend.verdict/1", alias="schema")
    words: Words
    metric: str
    """The metric the words are about."""
    measures: list[Measure]
    confidence: float = 0.95
    interval: str = "paired"
    """How the interval of the main metric was made."""
    p_value: float | None = None
    """Of the main metric; McNemar's exact test for labels."""
    held_out_rows: int
    gained: int = 0
    """Rows on which tuned does better than base by the main metric."""
    lost: int = 0
    """Rows on which it does worse."""
    gained_examples: list[ChangedRow] = Field(default_factory=list)
    lost_examples: list[ChangedRow] = Field(default_factory=list)
    model: str
    adapter: str
    template: str
    data: str
    run: str | None = None
    few_shot: int = 0
    """Examples in the prompt of the untuned model where it was asked with some; 0 when it was not."""
    few_shot_words: Words | None = None
    """The tuned model against the untuned one with examples in its prompt."""
    temperature: float = 0.0
    """At which free text was written; 0 is the best token always."""
    rows_needed: int | None = None
    """Where the rows are too few to tell: about how many would show a difference of this size."""
    detectable: float | None = None
    """The smallest difference that these rows would show in 80 of 100 cases."""
    never_said: dict[str, list[str]] = Field(default_factory=dict)
    """`untuned` and `tuned`: labels that are expected somewhere and were never answered."""
    norms: Norms | None = None
    forgetting: Forgetting | None = None
    notes: list[str] = Field(default_factory=list)
    """What was not done, or should be known when reading this."""

    @property
    def main(self) -> Measure:
        """The measure that the words are about."""
        return next(measure for measure in self.measures if measure.name == self.metric)


class Pair(Part):
    """Two models on the same rows."""

    first: str
    second: str
    words: Words
    """What may be said of the second against the first, with all comparisons of the table taken into account."""
    difference: float
    """second - first."""
    low: float
    high: float
    p_value: float
    adjusted_p_value: float
    """Holm's: the chance of any false claim in the whole table is kept."""


class Comparison(Noun):
    """Several runs on the same held-out rows, each against the untuned model and against each other."""

    schema_: Literal["allmend.comparison/1"] = Field("allmend.comparison/1", alias="schema")
    metric: str
    higher_is_better: bool
    rows: int
    confidence: float
    data: str
    values: dict[str, float]
    """Mean of the metric: `untuned`, and each run."""
    pairs: list[Pair]
    verdicts: list[Verdict] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
