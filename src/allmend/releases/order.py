"""What is to be shipped, and from what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allmend.adapters import AdapterWeights
from allmend.data import Row, Template
from allmend.models.loading import Loaded
from allmend.nouns.run import Run
from allmend.nouns.verdict import Verdict


@dataclass(frozen=True)
class Order:
    """What to ship, and from what."""

    run: Run
    loaded: Loaded
    """The base in memory, fp32, without LoRA; of a run that learned all weights its own model."""
    weights: AdapterWeights
    """The adapter; without modules where the run learned all weights."""
    template: Template
    rows: Sequence[Row]
    """Held-out rows."""
    labels: Sequence[str] | None
    target: Path
    verdict: Verdict | None
    data: str
    data_digest: str | None
    data_licence: str | None
    splits: dict[str, int]
    merge: bool = False
    gguf: tuple[str, ...] = ()
    sign: Path | None = None
    container: bool = False
    prompts: int = 32
    licence: Path | None = None
    bits: int | None = None
    """8 or 4 where the adapter was tuned and tested on the base rounded so, while it leaves for the base itself."""
    settings: dict[str, Any] = field(default_factory=dict)
    report_to: Path | None = None
    """Folder that keeps the parity report of a refusal."""
    stage: Callable[[str], None] = lambda _: None
    amount: Callable[[str, int, int], None] = lambda *_: None

    @property
    def whole(self) -> bool:
        """Whether all weights were learned, so that there is a model and no adapter."""
        return not self.weights.modules
