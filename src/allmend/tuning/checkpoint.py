"""What is needed to go on bit for bit after a kill: adapter, optimiser, counters. Best and last are both kept.

A checkpoint is one safetensors file with its counters in the header, written beside and renamed, so that a kill at
any moment leaves the one before or the one after.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from allmend.errors import DoesNotFit, InputError

_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64", torch.int64: "I64"}


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
    high: int = 0
    """Steps in a row whose loss was far above the first one's."""
    replanned: list[tuple[int, int]] = field(default_factory=list)
    """(step, new number of steps), each time the plan was lowered."""


def save(path: Path, adapter: dict[str, torch.Tensor], optimiser: dict[str, torch.Tensor], progress: Progress) -> None:
    """Write a checkpoint by rename.

    Raises:
        DoesNotFit: the disk is full; the checkpoint before is as it was.
    """
    tensors = {f"adapter.{name}": tensor for name, tensor in adapter.items()}
    tensors |= {f"optimiser.{name}": tensor for name, tensor in optimiser.items()}
    # One name, so that the next checkpoint takes the place of what a kill left half-written.
    hidden = path.with_name(f".{path.name}.new")
    try:
        with hidden.open("wb") as file:
            counters = json.dumps(asdict(progress))
            _write(file, tensors, {"progress": counters, "crc32": f"{_sum(tensors, counters):08x}"})
        hidden.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        size = sum(tensor.nbytes for tensor in tensors.values())
        raise DoesNotFit(
            f"a checkpoint of {size / 2**20:.1f} MiB cannot be written: {os.strerror(error.errno)}",
            where=str(path.parent),
            hint="Free some space and run the same command again: it goes on from the checkpoint before.",
        ) from error
    finally:
        hidden.unlink(missing_ok=True)


def _write(file: BinaryIO, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """The safetensors format, tensor by tensor.

    The library either makes the whole file in memory first, or writes it under a temporary name of its own that a
    kill would leave behind.
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for tensor in tensors.values():
        file.write(_bytes(tensor))


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _sum(tensors: Mapping[str, torch.Tensor], counters: str) -> int:
    """CRC-32 of counters and named tensors: the format itself does not notice a flipped bit."""
    running = zlib.crc32(counters.encode())
    for name, tensor in tensors.items():
        running = zlib.crc32(
            _bytes(tensor), zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), running)
        )
    return running


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], Progress]:
    """Read a checkpoint; raises `InputError` when it is damaged."""
    parts: dict[str, dict[str, torch.Tensor]] = {"adapter": {}, "optimiser": {}}
    try:
        with safe_open(path, "pt") as file:
            values: dict[str, Any] = json.loads(file.metadata()["progress"])
            every = {key: file.get_tensor(key) for key in file.offset_keys()}
            for key, tensor in every.items():
                part, _, name = key.partition(".")
                parts[part][name] = tensor
            stated = file.metadata().get("crc32")
            if stated is not None and int(stated, 16) != _sum(every, file.metadata()["progress"]):
                raise ValueError("its content is not what was written")
        values["replanned"] = [tuple(pair) for pair in values["replanned"]]
        return parts["adapter"], parts["optimiser"], Progress(**values)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"this checkpoint is damaged: {error}", where=str(path), hint="Tune again with --fresh to start over."
        ) from None
