"""What a release knows of where it comes from: gathered once, told in card, lineage and bill of materials."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allmend.nouns.adapter import Adapter
from allmend.nouns.model import Model
from allmend.nouns.release import Agreement
from allmend.nouns.run import Run
from allmend.nouns.verdict import Verdict
from allmend.releases.licences import Terms


@dataclass(frozen=True)
class Facts:
    """Everything that the descriptions need."""

    name: str
    made: str
    """Time, UTC, ISO 8601."""
    version: str
    """Of allmend."""
    run: Run
    base: Model
    base_origin: str | None
    terms: Terms
    data: str
    """The data's name without its folder."""
    data_digest: str | None
    data_licence: str | None
    rows: dict[str, int]
    """Rows of each split."""
    verdict: Verdict | None
    template: str
    lora: Adapter | None
    """None where all weights were learned."""
    agreements: list[Agreement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    """Of `ship`."""

    @property
    def base_name(self) -> str:
        """The base as others know it: its makers' name, or ours without a folder of this machine."""
        return self.base_origin or public_name(self.base)


def public_name(model: Model) -> str:
    """A model's name without the folders of this machine."""
    return Path(model.name).name if model.source in ("folder", "file") else model.name


def public(value: Any) -> Any:
    """Values without the folders of this machine: of an absolute path only its last part."""
    if isinstance(value, dict):
        return {key: public(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [public(item) for item in value]
    if isinstance(value, str) and value.startswith(("/", "~")) and "\n" not in value:
        return Path(value).name
    return value
