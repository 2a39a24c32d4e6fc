"""One step as training takes it, that leaves everything as it was: what probes measure."""

from __future__ import annotations

from collections.abc import Sequence

from allmend.data import Tokens
from allmend.tuning.divided import DividedModel
from allmend.tuning.optimiser import AdamW
from allmend.tuning.passes import Passes


def trial_step(passes: Passes, rows: Sequence[Tokens], optimiser: AdamW | None = None) -> None:
    """Forward, backward, and with an optimiser its update at a rate of zero, which changes no weight.

    Args:
        optimiser: kept by the caller over several steps, so that its moments take their memory once.
    """
    model = passes.loaded.model
    training = model.training
    model.train()
    try:
        for pack in passes.packs(rows):
            passes.loss(pack).backward()  # type: ignore[no-untyped-call]
        if isinstance(passes.lora, DividedModel):
            passes.lora.take_gradients()
        if optimiser is not None:
            optimiser.step(0.0)
    finally:
        for weight in passes.lora.parameters():
            weight.grad = None
        passes.stepped()
        model.train(training)
