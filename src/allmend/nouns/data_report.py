"""What `data check` found out about a data file before anything was trained on it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from allmend.nouns.examples import ExamplesKind
from allmend.nouns.noun import Noun, Part

ProblemSeverity = Literal["blocking", "warning", "note"]
"""`blocking`: tuning on it would stop or be pointless. `warning`: the result suffers. `note`: worth knowing."""

ProblemId = Literal[
    "unreadable-rows",
    "empty-rows",
    "too-few-rows",
    "one-class",
    "class-balance",
    "rare-classes",
    "label-variants",
    "conflicting-labels",
    "several-answers",
    "duplicates",
    "near-duplicates",
    "leakage",
    "near-leakage",
    "answer-too-long",
    "longer-than-context",
    "secrets",
    "personal-data",
    "special-tokens",
    "undescribed-tools",
    "double-beginning",
    "missing-end",
    "round-trip",
    "damaged-text",
]


class DataProblem(Part):
    """One kind of problem, with the first rows that have it."""

    id: ProblemId
    severity: ProblemSeverity
    message: str
    count: int
    """How many rows have it."""
    rows: list[str] = Field(default_factory=list)
    """`file:line` of the first few. Never what stands in them."""
    fix: str = ""
    """What to do about it."""


class Lengths(Part):
    """How long rows are."""

    of: Literal["prompt", "completion", "text", "row"]
    unit: Literal["characters", "words", "tokens"]
    least: int
    median: float
    most_of_them: float
    """95 of 100 rows are at most this long."""
    most: int
    total: int
    bins: list[int] = Field(default_factory=list)
    """Rows in equal ranges of length, from the least to the most."""


class Preview(Part):
    """One row as training sees it, secrets hidden: what is read, and what is learned."""

    place: str
    why: str = ""
    """Why this row was chosen: the first, the longest, one of each label."""
    template: str
    given: str
    learned: str
    parts: list[tuple[str, bool]] = Field(default_factory=list)
    """The row's text in order, and whether each part is learned; of conversations every answer is one."""
    cut: str = ""
    """What the context leaves out, from the start of the prompt."""
    cut_tokens: int = 0
    tokens: int | None = None
    """Tokens of the whole row, where they are counted."""
    learned_tokens: int | None = None


class Unchecked(Part):
    """Something that was not looked at, and why. Not checked is never clean."""

    what: str
    why: str


class DataReport(Noun):
    """The findings about one data file."""

    schema_: Literal["allmend.data-report/1"] = Field("allmend.data-report/1", alias="schema")
    source: str
    sha256: str
    kind: ExamplesKind
    rows: int
    """Rows that could be read, empty ones included."""
    columns: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, int] | None = None
    """Rows a label, most first, when the set is a classification."""
    lengths: list[Lengths] = Field(default_factory=list)
    problems: list[DataProblem] = Field(default_factory=list)
    """Blocking ones first."""
    unchecked: list[Unchecked] = Field(default_factory=list)
    previews: list[Preview] = Field(default_factory=list)
    """A few rows as training sees them; the first row first."""
    notes: list[str] = Field(default_factory=list)
    """What was decided while reading."""
    held_out_source: str | None = None
    fixed: str | None = None
    """The cleaned copy, when one was written."""
    fixed_rows: int | None = None
    """Rows in it."""

    @property
    def blocking(self) -> list[DataProblem]:
        """The problems that stop a tuning."""
        return [problem for problem in self.problems if problem.severity == "blocking"]

    def problem(self, name: ProblemId) -> DataProblem | None:
        """The problem of that id; None when it was not found."""
        return next((problem for problem in self.problems if problem.id == name), None)
