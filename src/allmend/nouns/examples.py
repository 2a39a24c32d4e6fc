"""Examples: what was read from a person's data file, counted and digested. The rows themselves stay in `data`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from allmend.nouns.noun import Noun, Part

ExamplesKind = Literal["prompt_completion", "messages", "text"]
"""A prompt with the completion wanted for it; a conversation; or plain text to continue."""


class SkippedRow(Part):
    """A row that could not be used and was left out because the person said so."""

    place: str
    """`file:line`."""
    reason: str


class Examples(Noun):
    """A set of examples: where it came from, what it holds, how it was divided."""

    schema_: Literal["allmend.examples/1"] = Field("allmend.examples/1", alias="schema")
    kind: ExamplesKind
    source: str
    """Path of the file or folder; `-` when it was piped in."""
    sha256: str
    """Of the file's bytes; of a folder, of the sorted list of its files' names and digests."""
    rows: int
    labels: list[str] | None = None
    """The sorted distinct completions when the set is a classification; None when it is not."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Which column or field of the file became which part of a row."""
    notes: list[str] = Field(default_factory=list)
    """What was decided while reading, in a person's words: columns, delimiter, values turned into text."""
    skipped: int = 0
    """How many bad rows were left out (`--skip-bad`)."""
    skipped_rows: list[SkippedRow] = Field(default_factory=list)
    """The first few of them."""
    splits: dict[str, int] = Field(default_factory=dict)
    """Rows in `train`, `select` and `held_out`."""
    seed: int | None = None
    """The seed of the split."""
    held_out_source: str | None = None
    """A separate file that the held-out rows came from, when one was given."""
    held_out_sha256: str | None = None
