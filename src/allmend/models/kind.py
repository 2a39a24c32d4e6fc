"""What a model is for, read from its folder without loading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from allmend.nouns.model import Model

Kind = Literal["text", "embed", "rank", "transcribe", "speak"]
"""Text; embeddings; relevance of a document to a question; speech to text; text to speech."""

SAID: dict[Kind, str] = {
    "text": "writes text",
    "embed": "makes embeddings",
    "rank": "ranks documents",
    "transcribe": "turns speech into text",
    "speak": "turns text into speech",
}
"""What each does, in words."""


def kind_of(model: Model) -> Kind:
    """Text unless format, architecture or the files of sentence-transformers say otherwise."""
    if model.format == "ctranslate2":
        return "transcribe"
    if model.format == "onnx":
        return "speak"
    if model.format == "gguf":
        return "text"
    architectures = read(model.path / "config.json").get("architectures") or [""]
    name = str(architectures[0]) if isinstance(architectures, list) else ""
    if name.endswith("ForSequenceClassification"):
        return "rank"
    if (model.path / "modules.json").is_file():
        return "embed"
    # Bare encoders: `BertModel`, and those that were trained to fill gaps.
    return "embed" if name.endswith("ForMaskedLM") or (name.endswith("Model") and "LM" not in name) else "text"


def read(path: Path) -> Any:
    """A small JSON file; an empty object where there is none or it cannot be read."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
