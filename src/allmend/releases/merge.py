"""Merging an adapter into its base: `W + scale * B A`, shard by shard, in fp32, rounded once to the base's own format.

One tensor is in memory at a time, so the peak stays far below the largest shard, whatever the model's size.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from allmend.adapters import AdapterWeights
from allmend.errors import DoesNotFit, InputError, Refused
from allmend.releases.safetensors_stream import INDEX, Entry, Shard, rewrite, shards, tensor

SETTINGS = ("config.json", "generation_config.json")

Report = Callable[[str, int, int], None]


def merge(base: Path, weights: AdapterWeights, target: Path, report: Report = lambda *_: None) -> None:
    """Write the merged model's weights and settings into the empty folder `target`.

    Raises:
        Refused: the base's own weights are quantised, or the sum overflows their format.
        InputError: the adapter does not fit the base.
        DoesNotFit: no room on the disk.
    """
    files = shards(base)
    refuse_quantised(base)
    needed = sum(shard.path.stat().st_size for shard in files)
    free = shutil.disk_usage(target).free
    if free < needed + (64 << 20):
        raise DoesNotFit(
            f"the merged model needs {needed / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free",
            where=str(target),
            hint="Free some space, or name another disk with --to.",
        )
    owners = owners_of(files, weights)
    done = 0
    for shard in files:
        with shard.path.open("rb") as source:
            rewrite(shard, target / shard.path.name, partial(_sum, source, owners, weights))
        done += shard.path.stat().st_size
        report("merging", done, needed)
    for name in (*SETTINGS, INDEX):
        if (base / name).is_file():
            shutil.copyfile(base / name, target / name)


def refuse_quantised(base: Path) -> None:
    """Weights that are kept in 4 or 8 bits cannot take an update without being quantised again."""
    try:
        config = json.loads((base / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the base's configuration cannot be read: {error}", where=str(base)) from None
    how = config.get("quantization_config")
    if how:
        method = how.get("quant_method", "a quantised format") if isinstance(how, dict) else "a quantised format"
        raise Refused(
            f"the base is stored as {method}: merging would quantise its weights a second time, "
            "and the result would not be what was tested",
            where=str(base),
            hint="Ship the adapter alone, or tune on the model in bf16.",
        )


def owners_of(files: list[Shard], weights: AdapterWeights) -> dict[str, str]:
    """Name of a tensor -> module of the adapter that is added to it; every module must have exactly one."""
    shapes = {entry.name: entry.shape for shard in files for entry in shard.entries}
    owners = {}
    for module, (a, b) in weights.modules.items():
        names = [name for name in (f"{module}.weight", f"{module.removeprefix('model.')}.weight") if name in shapes]
        if not names:
            raise InputError(
                f"the base has no weight for {module}",
                where=str(weights.folder),
                hint=f"The adapter was made for {weights.base or 'another model'}.",
            )
        if shapes[names[0]] != (b.shape[0], a.shape[1]):
            raise InputError(
                f"{module} is {b.shape[0]}x{a.shape[1]} in the adapter and {shapes[names[0]]} in the base",
                where=str(weights.folder),
                hint=f"The adapter was made for {weights.base or 'another model'}.",
            )
        owners[names[0]] = module
    return owners


def update(weights: AdapterWeights, module: str, before: Any) -> Any:
    """What a module's weight `before` (out, in) gains: `scale * B A`, and with DoRA the length of its rows; fp32."""
    a, b = weights.modules[module]
    added = weights.config_of(module).scale * (b @ a)
    magnitude = weights.magnitudes.get(module)
    if magnitude is None:
        return added
    whole = before.float() + added
    return (magnitude / whole.norm(dim=1)).unsqueeze(1) * whole - before.float()


def _sum(source: Any, owners: dict[str, str], weights: AdapterWeights, entry: Entry) -> Any | None:
    module = owners.get(entry.name)
    if module is None:
        return None
    old = tensor(source, entry)
    new = (old.float() + update(weights, module, old)).to(old.dtype)
    if not new.isfinite().all():
        raise Refused(
            f"{entry.name} overflows {entry.dtype.lower()} when the adapter is added",
            hint="Ship the adapter alone, or tune on the model in bf16 or fp32, which hold larger numbers.",
        )
    return new
