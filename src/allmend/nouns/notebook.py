"""A notebook as it was written: cells, metadata and form parameters, without its stored results."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from allmend.nouns.noun import Noun, Part
from allmend.nouns.plan import FormParameter

CellType = Literal["code", "markdown", "raw"]


class Cell(Part):
    """One cell, in the order of the document."""

    type: CellType
    source: str
    hidden: bool = False
    """The page hides the source: Colab's form view, or Jupyter's `source_hidden`."""
    tags: list[str] = Field(default_factory=list)
    language: str | None = None
    """Set where the cell says its own language (nbformat 3, SQL and polyglot notebooks)."""
    scripts: int = 0
    """Stored outputs of this cell that carry a script."""
    problem: str | None = None
    """Why the cell's source could not be taken from the document, if it could not."""


class Notebook(Noun):
    """A notebook: the cells, what the metadata says, and the form parameters."""

    schema_: Literal["allmend.notebook/1"] = Field("allmend.notebook/1", alias="schema")
    cells: list[Cell] = Field(default_factory=list)
    language: str = "python"
    language_stated: bool = True
    """False when neither `language_info` nor a kernel says the language (common on Colab)."""
    kernel: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    nbformat: int = 4
    sha256: str = ""
    """Digest of the bytes that were read."""
    parameters: list[FormParameter] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)
    """What was odd about the document, in a person's words."""
