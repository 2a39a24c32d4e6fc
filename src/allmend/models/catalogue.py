"""The catalogue: small models and data that packages on the Python index carry, pinned by SHA-256.

Other packages add rows through the entry-point group `allmend.catalogues`: each entry point names a callable
that returns TOML text in the form of `catalogue.toml`. A row of ours cannot be replaced from outside.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from importlib.metadata import entry_points

from pydantic import Field

from allmend.nouns.model import Format
from allmend.nouns.noun import Part

Sha256 = str


class PackagePart(Part):
    """A member of one distribution file of a package."""

    package: str
    version: str
    file: str
    """The distribution's file name."""
    sha256: Sha256
    size: int
    member: str
    """Path inside; `outer!inner` reads an archive inside the archive."""


class Beside(PackagePart):
    """A small file that belongs beside an entry's own, as a configuration or a tokenizer does."""

    place: str
    """Path in the entry's folder."""


class Entry(Part):
    """A file that is put together from packages."""

    title: str
    file: str
    size: int
    sha256: Sha256
    licence: str
    licence_file: str | None = None
    terms: str | None = None
    parts: tuple[PackagePart, ...]
    notices: tuple[PackagePart, ...] = ()
    """Licence and notice files that are kept beside it."""
    beside: tuple[Beside, ...] = ()
    """What else the model's folder holds; verified with the distribution it comes from."""

    @property
    def download_bytes(self) -> int:
        """Bytes fetched from the index, each distribution counted once."""
        return sum({part.file: part.size for part in (*self.parts, *self.notices, *self.beside)}.values())


class ModelEntry(Entry):
    """A model."""

    format: Format
    base: str | None = None


class RatedRows(Part):
    """How a table of rated sentences becomes rows of prompt and label."""

    separator: str
    text: int
    """Column of the text, from 0."""
    score: int
    """Column of the rating."""
    threshold: float
    """Rows with a rating nearer to zero say neither and are left out."""
    prompt: str
    """The prompt; `{text}` is the sentence."""
    positive: str
    negative: str


class DataEntry(Entry):
    """A data set."""

    source: str
    rows: RatedRows


class BenchmarkEntry(Entry):
    """Rows of a well-known evaluation. For measuring only."""

    source: str
    examples: dict[str, str] = Field(default_factory=dict)
    """`prompt`, `completion`, `tests`, `entry_point`: the fields they are in. Empty for choices."""
    note: str = ""
    """In what the rows differ from those of published figures."""


class Catalogue(Part):
    """Everything that can be had by a short name."""

    models: dict[str, ModelEntry] = Field(default_factory=dict)
    data: dict[str, DataEntry] = Field(default_factory=dict)
    benchmarks: dict[str, BenchmarkEntry] = Field(default_factory=dict)


@cache
def catalogue() -> Catalogue:
    """The built-in catalogue with the rows that installed packages add."""
    own = _read(resources.files("allmend.models").joinpath("catalogue.toml").read_text("utf-8"))
    models, data, benchmarks = dict(own.models), dict(own.data), dict(own.benchmarks)
    for point in entry_points(group="allmend.catalogues"):
        added = _read(point.load()())
        models = added.models | models
        data = added.data | data
        benchmarks = added.benchmarks | benchmarks
    return Catalogue(models=models, data=data, benchmarks=benchmarks)


def _read(text: str) -> Catalogue:
    return Catalogue.model_validate(tomllib.loads(text))
