"""What leaves: artefacts made from one run, held to what was tested, with how far each agrees."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from allmend.nouns.noun import Noun, Part

ArtefactKind = Literal["adapter", "merged", "gguf", "gguf_adapter"]


class Artefact(Part):
    """One thing that someone can load."""

    name: str
    """`adapter`, `merged`, `model` (all weights learned), `gguf-q8_0`, `gguf-adapter` …"""
    kind: ArtefactKind
    """How it is loaded; a `model` is loaded as a `merged` is."""
    path: str
    """Folder or file, relative to the release."""
    type: str
    """Number format of the weights: `bf16`, `q8_0`, `q4_k_m` …"""
    on: str | None = None
    """Of an adapter in GGUF: the format of the base's file that it was tried on."""
    bytes: int
    sha256: str
    """Of the file, or of the lines `SHA-256, two spaces, relative path` of a folder's files in the order of paths."""


class Breach(Part):
    """Something in which an artefact is not what was tested."""

    artefact: str
    cause: str
    """One word of `docs/ship.md`'s table: `template`, `bos`, `eos`, `base`, `requantised`, `alpha`, `tied` …"""
    message: str
    fix: str
    evidence: str = ""
    """The figures or texts that it rests on."""


class Agreement(Part):
    """How far one artefact, as its consumer loads it, agrees with what was tested."""

    artefact: str
    consumer: str
    """What loaded it, with version."""
    rows: int
    template_equal: int
    """Rows whose prompt text is the same, up to a leading mark that the consumer adds itself."""
    ids_equal: int
    """Rows whose prompt is the same token ids."""
    loss: float
    """Per learned token, mean over rows."""
    loss_difference: float
    """Mean over rows of the absolute difference per learned token."""
    loss_worst: float
    """The largest difference of a row."""
    texts_equal: int
    texts: int
    """Greedy answers compared; those that differ are no breach by themselves."""
    metric: str | None = None
    """`accuracy`, where the rows have labels."""
    value: float | None = None
    reference: float | None = None
    low: float | None = None
    """Interval of the paired difference in the metric (in the loss, where there are no labels)."""
    high: float | None = None
    allowed_mean: float
    """Threshold of `loss_difference` for this format."""
    allowed_worst: float
    passed: bool
    seconds: float = 0.0


class Release(Noun):
    """A folder that is ready to be passed on."""

    schema_: Literal["allmend.release/1"] = Field("allmend.release/1", alias="schema")
    name: str
    run: str
    made: str
    """Time, UTC, ISO 8601."""
    allmend: str
    """Version that made it."""
    base: str
    """Name of the model it was made from."""
    base_digest: str
    base_format: Literal["gguf", "safetensors"]
    base_origin: str | None = None
    """The model as its makers call it."""
    adapter_digest: str | None
    """None where all weights were learned, and there is no adapter."""
    data_digest: str | None = None
    template: str
    """Name of the chat template."""
    template_digest: str
    licence: str | None = None
    artefacts: list[Artefact]
    agreements: list[Agreement] = Field(default_factory=list)
    signed: bool = False
    notes: list[str] = Field(default_factory=list)
    """What was not done, or should be known by whoever receives it."""

    def artefact(self, name: str) -> Artefact | None:
        """The artefact called `name`."""
        return next((artefact for artefact in self.artefacts if artefact.name == name), None)


class Verification(Noun):
    """What checking a release found."""

    schema_: Literal["allmend.verification/1"] = Field("allmend.verification/1", alias="schema")
    folder: str
    files: int
    bytes: int
    problems: list[str] = Field(default_factory=list)
    checked: list[str] = Field(default_factory=list)
    """What was checked, in sentences."""
    not_checked: list[str] = Field(default_factory=list)
    """What was not, and why."""
    signer: str | None = None
    """SHA-256 of the public key that signed it."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found; `not_checked` still stands."""
        return not self.problems
