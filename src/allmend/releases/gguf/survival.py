"""How much of an adapter is left after rounding, and the format in which enough of it is.

A base that came from a GGUF lies on the grid of that file's format. Rounded into the same format again, most weights
fall back to exactly where they were, since an adapter moves them by far less than a step: on the default model two to
six per cent of the update were left in q4_k_m, and the model had forgotten what it was taught. The share that is left
is measured for every adapted tensor, and where it is not near 1 a finer format is taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from allmend.adapters import AdapterWeights
from allmend.releases.gguf.model import planned
from allmend.releases.gguf.settings import Settings
from allmend.releases.gguf.types import quantised, read_back
from allmend.releases.merge import owners_of, update
from allmend.releases.safetensors_stream import Entry, shards, tensor

_FINER = ("q4_0", "q4_k", "q5_0", "q5_1", "q5_k", "q6_k", "q8_0")
"""From coarse to fine."""

_LEAST, _MOST = 0.8, 1.25
_ROWS = 96


def share_left(before: Any, change: Any, type_: str) -> float:
    """The part of `change` (rows, columns) that is left when `before + change` is stored in bf16 and then in `type_`:
    1 is all of it, 0 none; more is rounding that happens to point its way."""
    import torch

    stored = (before + change).bfloat16()
    left = torch.from_numpy(read_back(quantised(stored, type_, "a part of it"), type_)) - before
    return float((left * change).sum() / (change * change).sum().clamp_min(1e-30))


def finer_types(base: Path, merged: Path, weights: AdapterWeights, settings: Settings, type_: str) -> dict[str, str]:
    """Tensors of the merged folder that need another format than a file of `type_` gives them: name -> format.

    Only formats of 6 bits and below can lose an adapter this way; the others are not looked at.
    """
    files = shards(base)
    owners = owners_of(files, weights)
    places: dict[str, tuple[Path, Entry]] = {e.name: (shard.path, e) for shard in files for e in shard.entries}
    found = {}
    for _, entry, _, given in planned(merged, settings, type_):
        if entry.name not in owners or given not in _FINER[:-1]:
            continue
        path, place = places[entry.name]
        with path.open("rb") as file:
            whole = tensor(file, place).float()
        step = max(1, whole.shape[0] // _ROWS)
        change = update(weights, owners[entry.name], whole)[::step]
        before = whole[::step]
        if _LEAST <= share_left(before, change, given) <= _MOST:
            continue
        found[entry.name] = _enough(before, change, given, entry.shape[-1])
    return found


def _enough(before: Any, change: Any, given: str, columns: int) -> str:
    """The first finer format that keeps the change."""
    for finer in _FINER[_FINER.index(given) + 1 : -1]:
        if finer.endswith("k") and columns % 256:
            continue
        if _LEAST <= share_left(before, change, finer) <= _MOST:
            return finer
    return "q8_0"
