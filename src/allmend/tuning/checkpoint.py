"""What is needed to go on bit for bit after a kill: adapter, optimiser, counters. Best and last are both kept.

A checkpoint is one safetensors file with its counters in the header, written beside and renamed, so that a kill at
any moment leaves the one before or the one after.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise

from allmend.errors import InputError


@dataclass
class Progress:
    """The counters of a training run."""

    step: int = 0
    """Optimiser steps done."""
    steps: int = 0
    """Steps planned; lowered when the machine turns out slower than it was measured."""
    tokens: int = 0
    """Tokens of real text seen."""
    seconds: float = 0.0
    """Time spent training, over all sittings."""
    best_loss: float | None = None
    """Lowest selection loss so far."""
    best_step: int | None = None
    first_loss: float | None = None
    """Training loss of the first step, to tell when it runs away."""
    replanned: list[tuple[int, int]] = field(default_factory=list)
    """(step, new number of steps), each time the plan was lowered."""


def save(path: Path, adapter: dict[str, torch.Tensor], optimiser: dict[str, torch.Tensor], progress: Progress) -> None:
    """Write a checkpoint by rename."""
    tensors = {f"adapter.{name}": tensor for name, tensor in adapter.items()}
    tensors |= {f"optimiser.{name}": tensor for name, tensor in optimiser.items()}
    # One name, so that the next checkpoint takes the place of what a kill left half-written.
    hidden = path.with_name(f".{path.name}.new")
    try:
        # Not save_file, whose own temporary file would be left behind by a kill.
        hidden.write_bytes(serialise(tensors, metadata={"progress": json.dumps(asdict(progress))}))
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], Progress]:
    """Read a checkpoint; raises `InputError` when it is damaged."""
    parts: dict[str, dict[str, torch.Tensor]] = {"adapter": {}, "optimiser": {}}
    try:
        with safe_open(path, "pt") as file:
            values: dict[str, Any] = json.loads(file.metadata()["progress"])
            for key in file.keys():  # noqa: SIM118  (this is no dict)
                part, _, name = key.partition(".")
                parts[part][name] = file.get_tensor(key)
        values["replanned"] = [tuple(pair) for pair in values["replanned"]]
        return parts["adapter"], parts["optimiser"], Progress(**values)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"this checkpoint is damaged: {error}", where=str(path), hint="Tune again with --fresh to start over."
        ) from None
