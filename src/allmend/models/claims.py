"""Whether a config.json describes the weights beside it, asked before memory is given to what it claims.

transformers makes every tensor that the configuration names and only then says which of them do not fit: a width with
three digits too many takes all the memory of the machine first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from allmend.errors import InputError

HINT = "The files do not belong together; fetch the model again."

_TIMES = 2
"""A configuration may describe so many times the weights there are: what is wrong below that is told after loading."""

_COUNTS = ("layer", "block", "expert")
"""Words in the names of settings that say how many modules there are."""

_PACKED = {"U8", "I8", "I32", "U32"}
"""Whole numbers hold up to two weights a byte in quantised files."""


def check_claims(folder: Path, auto: str) -> None:
    """Raise `InputError` where config.json describes far more weights than there are.

    Args:
        auto: the class of transformers that would load it.
    """
    tensors, weights, longest = _there(folder)
    if not tensors:
        return  # weights that are missing are told by the loading
    for name, value in _counts(folder):
        if value > max(tensors, longest):
            raise InputError(
                f"config.json says {name} = {value}, and there are {tensors} tensors in all",
                where=str(folder),
                hint=HINT,
            )
    claimed = _claimed(folder, auto)
    if claimed is not None and claimed > _TIMES * weights:
        raise InputError(
            f"config.json describes {claimed:,} weights, and there are {weights:,}",
            where=str(folder),
            hint=HINT,
        )


def _there(folder: Path) -> tuple[int, int, int]:
    """Tensors in the folder, weights in them, and the longest of their sides; damaged files are told by the loading."""
    tensors, weights, longest = 0, 0, 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118  (this is no dict)
                    part = file.get_slice(name)
                    shape, kind = part.get_shape(), part.get_dtype()
                    packed = (8 if kind in ("I32", "U32") else 2) if kind in _PACKED else 1
                    tensors, weights = tensors + 1, weights + math.prod(shape) * packed
                    longest = max(longest, *shape, 0)
        except (SafetensorError, OSError):
            continue
    return tensors, weights, longest


def _counts(folder: Path) -> Iterator[tuple[str, int]]:
    """Settings that say how many modules of a kind there are, also those of parts of the model."""
    try:
        waiting: list[Any] = [json.loads((folder / "config.json").read_text("utf-8"))]
    except (OSError, ValueError, RecursionError):
        return
    while waiting:
        some = waiting.pop()
        for name, value in some.items() if isinstance(some, dict) else ():
            if isinstance(value, dict):
                waiting.append(value)
            elif isinstance(value, int) and any(word in name for word in _COUNTS):
                yield name, value


def _claimed(folder: Path, auto: str) -> int | None:
    """Weights of the network that config.json describes, which is built without memory; None where it cannot be."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            network = getattr(transformers, auto).from_config(config)
    except Exception:  # whatever transformers raises here, it raises again with its reason when the model is loaded
        return None
    return sum(int(weight.numel()) for weight in network.parameters())
