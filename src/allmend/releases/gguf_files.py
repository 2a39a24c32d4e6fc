"""Which GGUF files a release gets, from which base, and what it means when the base came from a GGUF itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from allmend.adapters import AdapterWeights
from allmend.models.loading import Loaded
from allmend.releases.expected import Expected
from allmend.releases.facts import public_name
from allmend.releases.gguf import lora, model, reader, survival, tokens
from allmend.releases.gguf.settings import settings_of
from allmend.releases.gguf.types import FILE_TYPES

_NAMES = {number: name for name, number in FILE_TYPES.items()}


@dataclass(frozen=True)
class Files:
    """Writes the GGUF files of one release."""

    loaded: Loaded
    weights: AdapterWeights
    expected: Expected
    name: str
    licence: str | None

    def naming(self) -> model.Naming:
        """What the files say beside model and tokenizer."""
        about = self.loaded.about
        return model.Naming(self.name, self.expected.template, self.licence, public_name(about))

    def tokenizer(self) -> dict[str, reader.Value]:
        """From the base's GGUF where there is one: the very bytes that were tested through it."""
        about = self.loaded.about
        if about.format == "gguf":
            return tokens.copied(reader.read(about.path))
        rows = int(self.expected.config["vocab_size"])
        return tokens.made(self.loaded.folder, self.loaded.tokenizer, rows, self.expected.marks.starts)

    def model(self, merged: Path, path: Path, type_: str, report: Callable[[str, int, int], None]) -> str | None:
        """The merged model in one format; returns what was done to keep the adapter from being rounded away."""
        types: dict[str, str] = {}
        if type_.startswith("q") and type_ != "q8_0":
            settings = settings_of(self.expected.config)
            types = survival.finer_types(self.loaded.folder, merged, self.weights, settings, type_)
        model.write(merged, path, type_, self.tokenizer(), self.naming(), report, types)
        if not types:
            return None
        return (
            f"In {type_} the rounding would have undone the adapter in {len(types)} of {len(self.weights.modules)} "
            f"tensors; these are in {', '.join(sorted(set(types.values())))}."
        )

    def adapter(self, path: Path) -> None:
        """The adapter alone."""
        lora.write(self.weights, settings_of(self.expected.config), path, self.naming())

    def base(self, scratch: Path) -> tuple[Path, str]:
        """A GGUF of the base to try the adapter on, and its format: the file it came from, or one made for the try."""
        about = self.loaded.about
        if about.format == "gguf":
            return about.path, file_type(about.path)
        path = scratch / "base-f16.gguf"
        stored = "bf16" if str(self.expected.config.get("dtype", "")).endswith("bfloat16") else "f16"
        model.write(self.loaded.folder, path, stored, self.tokenizer(), self.naming())
        return path, stored


def file_type(path: Path) -> str:
    """The format a GGUF file says it is in, as far as thresholds know it."""
    return _NAMES.get(reader.read(path).get("general.file_type"), "q2_k")


def origin_notes(loaded: Loaded, whole: bool = False) -> list[str]:
    """What it means that the base came from a GGUF.

    Args:
        whole: all weights were learned, so that no adapter belongs to the base.
    """
    about = loaded.about
    if about.format != "gguf":
        return []
    stated = file_type(about.path)
    if stated in ("f32", "f16", "bf16"):
        return [f"The base came from a GGUF in {stated}, which holds the original weights."]
    if whole:
        return [
            f"The base came from a GGUF in {stated}: training began with that file's weights, not with those of the "
            "original checkpoint."
        ]
    return [
        f"The base came from a GGUF in {stated}: its weights are that file's, not those of the original checkpoint, "
        "and the error of that rounding is part of what was tuned and tested. The merged weights keep it.",
        "On the original checkpoint this adapter was not tested: judge it there before using it so.",
        f"The smallest form in which nothing was rounded again is the base's own file (SHA-256 {about.digest}) with "
        "the adapter's GGUF on it.",
    ]
