"""What several processes divide among them while they train: nothing, the moments, or weights and gradients too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allmend.errors import UsageError
from allmend.models.support import why_no_packs
from allmend.tuning import memory, together

if TYPE_CHECKING:
    from allmend.models.loading import Loaded
    from allmend.verbs.tune import TuneSettings


@dataclass(frozen=True)
class Shard:
    """The choice, and why."""

    name: str
    reason: str

    @property
    def divides_weights(self) -> bool:
        """Whether weights are divided, and with them gradients and moments."""
        return self.name == "all"

    @property
    def divides_moments(self) -> bool:
        """Whether the moments alone are divided."""
        return self.name == "optimiser"

    @classmethod
    def of(cls, settings: TuneSettings, loaded: Loaded) -> Shard:
        """What was asked for; else as little as fits, since what is divided has to be sent around.

        Raises:
            UsageError: it cannot be done with the other settings or this model.
            DoesNotFit: all weights are to be learned, and no way of dividing makes room for it.
        """
        if together.processes() == 1:
            if settings.shard not in (None, "none"):
                raise UsageError(
                    "there is one process only, so there is nobody to divide anything with",
                    where="--shard",
                    hint="Start several: torchrun --nproc-per-node 2 -m allmend tune …",
                )
            if settings.full:
                memory.check_whole(loaded, settings.memory)
            return cls("none", "one process")
        if settings.shard == "all":
            _check_weights(settings, loaded)
        if settings.shard == "optimiser" and not settings.full:
            raise UsageError(
                "a LoRA's moments are too small to be worth dividing", where="--shard", hint="It is for --full."
            )
        if not settings.full:
            return cls(settings.shard or "none", "asked for" if settings.shard else "a LoRA is small, its base frozen")
        if settings.shard:
            memory.check_whole(loaded, settings.memory, settings.shard)
            return cls(settings.shard, "asked for")
        if memory.fits_whole(loaded, settings.memory, "optimiser"):
            return cls("optimiser", "moments alone make it fit, and their steps are sent once")
        _check_weights(settings, loaded)
        memory.check_whole(loaded, settings.memory, "all")
        return cls("all", "dividing the moments alone would not fit")


def _check_weights(settings: TuneSettings, loaded: Loaded) -> None:
    """Raise `UsageError` where weights cannot be divided."""
    for name in ("base_bits", "dora", "upper_layers"):
        if getattr(settings, name):
            raise UsageError(
                f"--{name.replace('_', '-')} needs weights in one piece", where="--shard all", hint="Leave one out."
            )
    why = why_no_packs(loaded.model)
    if why is not None:
        raise UsageError(
            f"every process has to make as many passes as the others, which is done by packs: {why}",
            where="--shard all",
        )
