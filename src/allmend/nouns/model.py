"""A reference to a model as a person writes it, and the folder it resolved to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from allmend.nouns.noun import Noun

Source = Literal["catalogue", "hub", "folder", "file"]
Format = Literal["gguf", "safetensors", "ctranslate2", "onnx"]


class ModelRef(Noun):
    """What was asked for: `gemma-3-270m`, `OWNER/NAME@REV`, `hub://HOST/OWNER/NAME@REV`, a folder, a `.gguf`."""

    schema_: Literal["allmend.model_ref/1"] = Field("allmend.model_ref/1", alias="schema")
    source: Source
    name: str
    """Catalogue name, `OWNER/NAME`, or the path as written."""
    revision: str | None = None
    """A hub's branch, tag or commit; None is the hub's default."""
    endpoint: str | None = None
    """Another hub's address; None is `HF_ENDPOINT`."""

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        if self.endpoint:
            return f"hub://{self.endpoint.split('://', 1)[1]}/{self.name}{at}"
        return self.name + at


class Model(Noun):
    """A model that is here: weights and tokenizer in one folder or file, with digest and licence."""

    schema_: Literal["allmend.model/1"] = Field("allmend.model/1", alias="schema")
    name: str
    """What it is called in messages, records and the API."""
    source: Source
    format: Format
    path: Path
    """The folder, or the `.gguf` or `.onnx` file."""
    digest: str
    """SHA-256 of the `.gguf` file, or of the list of the folder's files and their SHA-256."""
    revision: str | None = None
    licence: str | None = None
    licence_file: Path | None = None
    terms: str | None = None
    """What the licence asks of the person, in a sentence, where known."""
    base: str | None = None
    """The model it was made from, where stated."""
    size: int = 0
    """Bytes of weights on disk."""
