"""A LoRA in PEFT's own file format, with the chat template it was trained with beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from allmend.nouns.noun import Noun


class Adapter(Noun):
    """An adapter on disk: `adapter_config.json`, `adapter_model.safetensors`, `chat_template.jinja`."""

    schema_: Literal["allmend.adapter/1"] = Field("allmend.adapter/1", alias="schema")
    folder: Path
    digest: str
    """SHA-256 of the weights file."""
    base: str
    """Name of the model it belongs to."""
    base_digest: str | None = None
    """Digest of that model, where the adapter was made here."""
    rank: int
    alpha: float
    targets: tuple[str, ...]
    template: str | None = None
    """Name of the chat template it was trained with."""
