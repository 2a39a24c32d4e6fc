"""Headers of safetensors and GGUF files, read with bounds; a header that lies about sizes is named, never trusted."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

LARGEST_HEADER = 100 * 2**20
MOST_ENTRIES = 200_000
_WIDTHS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8, "U16": 16,
           "U32": 32, "U64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "C64": 64}  # fmt: skip


@dataclass(slots=True)
class Header:
    """What a weights file says of itself."""

    format: str
    parameters: int = 0
    types: dict[str, int] = field(default_factory=dict)
    """Element type -> how many elements."""
    metadata: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def safetensors(path: Path) -> Header:
    """The header of a safetensors file (8 bytes of length, JSON, data)."""
    header = Header("safetensors")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            header.problems.append("the file is too short for a header")
            return header
        (length,) = struct.unpack("<Q", start)
        if length > min(LARGEST_HEADER, size - 8):
            header.problems.append(f"the header says that it is {length:,} bytes long; the file has {size:,}")
            return header
        text = file.read(length)
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        header.problems.append("the header is not JSON")
        return header
    if not isinstance(rows, dict) or len(rows) > MOST_ENTRIES:
        header.problems.append("the header is no table of tensors, or too long")
        return header
    metadata = rows.pop("__metadata__", {})
    header.metadata = (
        {str(k): v for k, v in metadata.items() if isinstance(v, str)} if isinstance(metadata, dict) else {}
    )
    room = size - 8 - length
    for name, row in rows.items():
        _tensor(header, name, row, room)
    return header


def _tensor(header: Header, name: str, row: object, room: int) -> None:
    if not isinstance(row, dict):
        header.problems.append(f"the row of {name[:60]!r} is no tensor")
        return
    shape, offsets, kind = row.get("shape"), row.get("data_offsets"), str(row.get("dtype"))
    if not (isinstance(shape, list) and all(isinstance(n, int) and 0 <= n < 2**48 for n in shape) and len(shape) <= 16):
        header.problems.append(f"the shape of {name[:60]!r} makes no sense")
        return
    count = 1
    for n in shape:
        count *= n
    good = isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(n, int) for n in offsets)
    if not good or not 0 <= offsets[0] <= offsets[1] <= room:  # type: ignore[index]
        header.problems.append(f"{name[:60]!r} points outside the file")
        return
    width = _WIDTHS.get(kind)
    if width is not None and count * width != (offsets[1] - offsets[0]) * 8:  # type: ignore[index]
        header.problems.append(f"{name[:60]!r} has another size than its shape says")
        return
    header.parameters += count
    header.types[kind] = header.types.get(kind, 0) + count


_SIMPLE = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_GGML = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K",
         13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
         22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16"}  # fmt: skip


class _Lie(Exception):
    """A header that cannot be true."""


def gguf(path: Path) -> Header:
    """The header of a GGUF file, versions 2 and 3."""
    header = Header("gguf")
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            _gguf(file, header, size)
        except (_Lie, struct.error, UnicodeDecodeError) as error:
            header.problems.append(str(error) if isinstance(error, _Lie) else "the header ends in the middle")
    return header


def _take(file: BinaryIO, shape: str) -> Any:
    data = file.read(struct.calcsize(shape))
    return struct.unpack(shape, data)[0]


def _string(file: BinaryIO, size: int) -> str:
    length = _take(file, "<Q")
    if length > min(size - file.tell(), 64 * 2**20):
        raise _Lie(f"a text says that it is {length:,} bytes long")
    return file.read(length).decode("utf-8", "replace")


def _gguf(file: BinaryIO, header: Header, size: int) -> None:
    if file.read(4) != b"GGUF":
        raise _Lie("it does not begin like a GGUF file")
    version = _take(file, "<I")
    if version not in (2, 3):
        raise _Lie(f"version {version} of the format is not read")
    tensors, pairs = _take(file, "<Q"), _take(file, "<Q")
    if tensors > MOST_ENTRIES or pairs > MOST_ENTRIES:
        raise _Lie(f"it says that it holds {tensors:,} tensors and {pairs:,} fields")
    for _ in range(pairs):
        key = _string(file, size)
        value = _value(file, _take(file, "<I"), size, 0)
        if len(header.metadata) < 5000:
            header.metadata[key] = value
    for _ in range(tensors):
        _string(file, size)
        dimensions = _take(file, "<I")
        if dimensions > 8:
            raise _Lie(f"a tensor has {dimensions} dimensions")
        count = 1
        for _ in range(dimensions):
            count *= _take(file, "<Q")
        kind, offset = _take(file, "<I"), _take(file, "<Q")
        if offset > size or count > 2**50:
            raise _Lie("a tensor points outside the file")
        header.parameters += count
        name = _GGML.get(kind, f"type {kind}")
        header.types[name] = header.types.get(name, 0) + count


def _value(file: BinaryIO, kind: int, size: int, depth: int) -> Any:
    if kind == 8:
        return _string(file, size)
    if kind == 9:
        inner, length = _take(file, "<I"), _take(file, "<Q")
        if length > size or depth > 3:
            raise _Lie(f"a list says that it has {length:,} items")
        if inner in _SIMPLE:
            width = struct.calcsize(_SIMPLE[inner])
            if length * width > size - file.tell():
                raise _Lie(f"a list says that it has {length:,} items")
            file.seek(length * width, 1)
            return f"{length} values"
        for _ in range(length):
            _value(file, inner, size, depth + 1)
        return f"{length} values"
    if kind not in _SIMPLE:
        raise _Lie(f"a field has the unknown type {kind}")
    return _take(file, _SIMPLE[kind])
