"""What a LoRA is made of (Hu et al., arXiv:2106.09685; rank stabilisation: Kalajdzievski, arXiv:2312.03732;
DoRA: Liu et al., arXiv:2402.09353)."""

from __future__ import annotations

import math

from pydantic import Field

from allmend.nouns.noun import Part


class LoraConfig(Part):
    """Shape and scale of a LoRA."""

    rank: int = Field(16, ge=1, le=1024)
    """Rank of the update."""
    alpha: float = Field(32.0, gt=0, allow_inf_nan=False)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the adapter's inputs that is dropped while training."""
    targets: tuple[str, ...] = ()
    """Names of the linear layers (`q_proj`, …); empty is all of them but the output head."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead."""
    dora: bool = False
    """Learn the length of each row of the adapted weight by itself (DoRA)."""

    @property
    def scale(self) -> float:
        """What the update is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)
