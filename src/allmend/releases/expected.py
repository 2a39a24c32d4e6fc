"""What an artefact must be: taken from the base, the adapter and the run, never from the artefact itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allmend.adapters import AdapterWeights
from allmend.releases.gguf.settings import config_of, generation_of


@dataclass(frozen=True)
class Marks:
    """The tokenizer's marks."""

    bos: int | None
    eos: int
    bos_text: str
    starts: bool
    """Whether what was tested began with the begin mark."""


@dataclass(frozen=True)
class Expected:
    """The truth that artefacts are held to."""

    base: Path
    """Safetensors folder of the base."""
    base_digest: str
    weights: AdapterWeights
    template: str
    """The template as it is shipped."""
    marks: Marks
    vocabulary: frozenset[int]
    """Tokens of the tokenizer. Two counts may be right: beside a config.json some classes add marks of their own."""
    config: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        base: Path,
        base_digest: str,
        weights: AdapterWeights,
        template: str,
        marks: Marks,
        vocabulary: frozenset[int],
    ) -> Expected:
        """With the base's own settings."""
        return cls(base, base_digest, weights, template, marks, vocabulary, config_of(base), generation_of(base))
