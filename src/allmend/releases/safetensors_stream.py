"""Reading and writing safetensors a tensor at a time, with plain reads: no file is ever mapped or held whole.

Format: 8 bytes little-endian length, that many bytes of JSON (name -> dtype, shape, data_offsets), then the data
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from allmend.errors import InputError

INDEX = "model.safetensors.index.json"
_LONGEST_HEADER = 100 << 20
_CHUNK = 16 << 20


@dataclass(frozen=True)
class Entry:
    """One tensor of a file."""

    name: str
    dtype: str
    """`BF16`, `F16`, `F32` …"""
    shape: tuple[int, ...]
    start: int
    """Place of its first byte in the file."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Shard:
    """One safetensors file."""

    path: Path
    entries: tuple[Entry, ...]
    """In the order of their places."""
    metadata: dict[str, str] = field(default_factory=dict)


def read_header(path: Path) -> Shard:
    """What a file holds; raises `InputError` when the header and the file's size do not fit."""
    length = path.stat().st_size
    with path.open("rb") as file:
        count = int.from_bytes(file.read(8), "little")
        if not 2 <= count <= min(length - 8, _LONGEST_HEADER):
            raise InputError("this is no safetensors file, or it was cut short", where=str(path))
        text = file.read(count)
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", {})
        entries = [_entry(name, value, 8 + count) for name, value in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"its header cannot be read: {str(error)[:200]}", where=str(path)) from None
    entries.sort(key=lambda entry: (entry.start, entry.name))
    place = 8 + count
    for entry in entries:
        if entry.start != place or entry.size < 0:
            raise InputError(f"{entry.name} does not lie where the header says", where=str(path))
        place += entry.size
    if place != length:
        missing = place - length
        words = f"it is cut short: {missing} bytes are missing" if missing > 0 else f"{-missing} bytes too many"
        raise InputError(words, where=str(path))
    return Shard(path, tuple(entries), {str(key): str(value) for key, value in metadata.items()})


def _entry(name: str, value: dict[str, Any], data: int) -> Entry:
    first, last = map(int, value["data_offsets"])
    return Entry(name, str(value["dtype"]), tuple(map(int, value["shape"])), data + first, last - first)


def shards(folder: Path) -> list[Shard]:
    """The weight files of a model folder, in order; every tensor of the index must be in the file it names."""
    found = [read_header(path) for path in sorted(folder.glob("*.safetensors"))]
    if not found:
        raise InputError("there are no .safetensors weights here", where=str(folder))
    index = folder / INDEX
    if index.is_file():
        try:
            wanted = dict(json.loads(index.read_text("utf-8"))["weight_map"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise InputError("the index of the weights cannot be read", where=str(index)) from None
        there = {entry.name: shard.path.name for shard in found for entry in shard.entries}
        for name, file in wanted.items():
            if there.get(name) != file:
                raise InputError(f"{name} should be in {file} and is not", where=str(index))
        named = set(wanted.values())
        found = [shard for shard in found if shard.path.name in named]
    return found


def raw(file: IO[bytes], entry: Entry) -> Iterator[bytes]:
    """The bytes of a tensor, in pieces."""
    file.seek(entry.start)
    left = entry.size
    while left:
        piece = file.read(min(_CHUNK, left))
        if not piece:
            raise InputError(f"the file ends inside {entry.name}")
        left -= len(piece)
        yield piece


def tensor(file: IO[bytes], entry: Entry) -> Any:
    """A tensor, read into memory of its own."""
    import torch

    kinds = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
    if entry.dtype not in kinds:
        raise InputError(f"{entry.name} is stored as {entry.dtype}, which is no plain floating-point format")
    buffer = bytearray(entry.size)
    file.seek(entry.start)
    if file.readinto(buffer) != entry.size:  # type: ignore[attr-defined]
        raise InputError(f"the file ends inside {entry.name}")
    return torch.frombuffer(buffer, dtype=kinds[entry.dtype]).reshape(entry.shape)


def rewrite(shard: Shard, target: Path, change: Callable[[Entry], Any | None]) -> None:
    """Copy a file, with the tensors that `change` returns in the place of the old; same names, dtypes and shapes."""
    import torch

    header: dict[str, Any] = {"__metadata__": shard.metadata or {"format": "pt"}}
    place = 0
    for entry in shard.entries:
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [place, place + entry.size],
        }
        place += entry.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with shard.path.open("rb") as source, target.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for entry in shard.entries:
            changed = change(entry)
            if changed is None:
                for piece in raw(source, entry):
                    out.write(piece)
            else:
                out.write(memoryview(changed.contiguous().view(torch.uint8).numpy()))
        out.flush()
