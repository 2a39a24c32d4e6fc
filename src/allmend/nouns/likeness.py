"""How alike the outputs of two runs of a notebook are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from allmend.nouns.noun import Noun, Part

Alike = Literal["same", "close", "different"]
"""`same`: the same bytes. `close`: numbers within the tolerance, images that look alike. `different`: anything else."""


class OutputLikeness(Part):
    """One output of a cell, or one file, in both runs."""

    where: str
    """`cell 3, output 1`, or a file's path."""
    kind: str
    """`text`, `image`, `table`, `error`, `file`, or a MIME type."""
    alike: Alike
    why: str = ""
    """What differs, in words; by how much where it can be measured."""


class Likeness(Noun):
    """The outputs of two runs, and the worst of their likenesses as a whole."""

    schema_: Literal["allmend.likeness/1"] = Field("allmend.likeness/1", alias="schema")
    first: str
    second: str
    alike: Alike
    outputs: list[OutputLikeness] = Field(default_factory=list)
    not_compared: list[str] = Field(default_factory=list)
    """Outputs of a kind that cannot be looked into, with the reason."""
