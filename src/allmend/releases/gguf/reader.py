"""Reading a GGUF header: settings and where tensors lie. Bounded, and ten times as fast as a general reader.

Only version 2 and 3, little-endian, as every current file is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allmend.errors import InputError

_FORMS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_LONGEST = 256 << 20


@dataclass(frozen=True)
class Value:
    """A setting with its types as numbers of the format."""

    kind: int
    value: Any
    of: int | None = None
    """Of an array: the kind of its items."""


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies."""

    name: str
    shape: tuple[int, ...]
    """Rows first, as torch has it."""
    type: int
    """Number of `ggml_type`."""
    offset: int
    """From the start of the file."""
    size: int


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself."""

    path: Path
    values: dict[str, Value]
    tensors: dict[str, TensorPlace]

    def get(self, key: str, default: Any = None) -> Any:
        """A setting's value."""
        found = self.values.get(key)
        return default if found is None else found.value


def read(path: Path) -> Header:
    """Read the header; raises `InputError` when the file is none, lies, or was cut short."""
    length = path.stat().st_size
    with path.open("rb") as file:
        data = file.read(min(length, _LONGEST))
    try:
        return _Reader(path, data, length).header()
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise InputError(f"its header cannot be read: {error}", where=str(path)) from None


class _Reader:
    def __init__(self, path: Path, data: bytes, length: int) -> None:
        self.path, self.data, self.length, self.at = path, data, length, 0

    def header(self) -> Header:
        if self.data[:4] != b"GGUF":
            raise InputError("this is not a GGUF file", where=str(self.path))
        self.at = 4
        version, tensors, count = self.number(4), self.number(10), self.number(10)
        if version not in (2, 3):
            raise InputError(f"GGUF of version {version} is not read", where=str(self.path))
        if tensors > 1 << 20 or count > 1 << 20:
            raise InputError("its header names more than there can be", where=str(self.path))
        values = {}
        for _ in range(count):
            key = self.text()
            kind = self.number(4)
            values[key] = self.value(kind)
        found = [self.tensor() for _ in range(tensors)]
        alignment = int(values["general.alignment"].value) if "general.alignment" in values else 32
        if not 1 <= alignment <= 1 << 20:
            raise InputError("its alignment is no size", where=str(self.path))
        start = -(-self.at // alignment) * alignment
        places = {}
        for name, shape, type_, offset in found:
            size = _size(type_, shape, self.path)
            places[name] = TensorPlace(name, shape, type_, start + offset, size)
            if start + offset + size > self.length:
                raise InputError(
                    f"it is cut short: {name} ends {start + offset + size - self.length} bytes after the file does",
                    where=str(self.path),
                )
        return Header(self.path, values, places)

    def number(self, kind: int) -> Any:
        form = _FORMS[kind]
        value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def text(self) -> str:
        count = self.number(10)
        if count > len(self.data) - self.at:
            raise InputError("a text in its header is longer than the file", where=str(self.path))
        text = self.data[self.at : self.at + count]
        self.at += count
        return text.decode("utf-8", "surrogateescape")

    def value(self, kind: int) -> Value:
        if kind == _STRING:
            return Value(kind, self.text())
        if kind != _ARRAY:
            if kind not in _FORMS:
                raise InputError(f"its header has a value of unknown kind {kind}", where=str(self.path))
            return Value(kind, self.number(kind))
        of, count = self.number(4), self.number(10)
        if count > len(self.data):
            raise InputError("a list in its header is longer than the file", where=str(self.path))
        if of == _STRING:
            return Value(kind, [self.text() for _ in range(count)], of)
        if of not in _FORMS:
            raise InputError(f"its header has a list of unknown kind {of}", where=str(self.path))
        items = list(struct.unpack_from(f"<{count}{_FORMS[of][1]}", self.data, self.at))
        self.at += count * struct.calcsize(_FORMS[of])
        return Value(kind, items, of)

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.text()
        dimensions = self.number(4)
        if dimensions > 8:
            raise InputError(f"{name} has {dimensions} dimensions", where=str(self.path))
        shape = tuple(self.number(10) for _ in range(dimensions))
        return name, tuple(reversed(shape)), self.number(4), self.number(10)


def _size(type_: int, shape: tuple[int, ...], path: Path) -> int:
    import gguf

    try:
        block, width = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(type_)]
    except (ValueError, KeyError):
        raise InputError(f"it holds tensors of unknown type {type_}", where=str(path)) from None
    count = 1
    for side in shape:
        count *= side
    return count // int(block) * int(width)


def numbers(header: Header, name: str, rows: slice | None = None) -> Any:
    """A tensor of the file as fp32 numbers (numpy), or some of its rows."""
    import gguf
    import numpy as np

    place = header.tensors[name]
    with header.path.open("rb") as file:
        file.seek(place.offset)
        data = np.frombuffer(file.read(place.size), dtype=np.uint8)
    if len(data) != place.size:
        raise InputError(f"the file ends inside {name}", where=str(header.path))
    matrix = data.reshape(place.shape[0] if len(place.shape) > 1 else 1, -1)
    if rows is not None:
        matrix = np.ascontiguousarray(matrix[rows])
    kind = gguf.GGMLQuantizationType(place.type)
    if kind == gguf.GGMLQuantizationType.F32:
        return matrix.view(np.float32)
    if kind == gguf.GGMLQuantizationType.F16:
        return matrix.view(np.float16).astype(np.float32)
    return gguf.quants.dequantize(matrix, kind)
