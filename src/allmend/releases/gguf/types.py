"""Number formats of GGUF files: their names, what each tensor gets in them, and turning numbers into them."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from allmend.errors import InputError, Unavailable, UsageError, nearest

FILE_TYPES = {
    "f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "q5_0": 8, "q2_k": 10, "q3_k_m": 12, "q4_k_s": 14, "q4_k_m": 15,
    "q5_k_m": 17, "q6_k": 18, "bf16": 32,
}  # fmt: skip
"""Name as people write it: `general.file_type` of llama.cpp."""

_IDS = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8,
    "q2_k": 10, "q3_k": 11, "q4_k": 12, "q5_k": 13, "q6_k": 14, "bf16": 30,
}  # fmt: skip
"""Tensor type: number of `ggml_type`."""

_BY_LIBRARY = {"q2_k", "q3_k", "q4_k", "q5_k", "q6_k"}
_SMALLER_BLOCKS = {"q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}
"""What llama.cpp takes where rows are no multiple of 256; Q2_K and Q3_K become IQ4_NL there, Q4_0 here."""

ERRORS = {
    "f32": 0.0, "bf16": 0.005, "f16": 0.002, "q8_0": 0.02, "q6_k": 0.04, "q5_k": 0.08, "q5_0": 0.09, "q5_1": 0.09,
    "q4_k": 0.15, "q4_0": 0.17, "q4_1": 0.17, "q3_k": 0.3, "q2_k": 0.5,
}  # fmt: skip
"""Relative RMS error that a tensor may have after a round trip: about twice what Gaussian weights have."""

_ROWS_AT_ONCE = 1 << 22
"""Elements that are turned at once."""


def checked(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names in lower case; raises `UsageError` naming the nearest known one."""
    found = []
    for name in names:
        word = name.strip().lower()
        if word not in FILE_TYPES:
            raise UsageError(f"there is no GGUF type {name!r}", where="--gguf", hint=nearest(word, FILE_TYPES))
        if word not in found:
            found.append(word)
    return tuple(found)


def tensor_type(file_type: str, name: str, shape: tuple[int, ...], layer: int | None, layers: int, tied: bool) -> str:
    """The type that a tensor gets in a file of `file_type`, as llama.cpp's mixtures give it.

    Args:
        name: GGUF's name. shape: rows first. layer: number of its block; None outside of blocks.
    """
    if len(shape) < 2 or name.startswith("rope_freqs"):
        return "f32"
    wanted = file_type
    if file_type.endswith(("_k_m", "_k_s")) or file_type == "q2_k":
        wanted = _mixture(file_type, name, layer, layers, tied)
    elif file_type in ("q4_0", "q5_0") and (name == "output.weight" or (tied and name == "token_embd.weight")):
        wanted = "q6_k" if has_library() else "q8_0"
    if wanted in _SMALLER_BLOCKS and shape[-1] % 256:
        wanted = _SMALLER_BLOCKS[wanted]
    if wanted not in ("f32", "f16", "bf16") and shape[-1] % 32:
        wanted = "f16"
    return wanted


def _mixture(file_type: str, name: str, layer: int | None, layers: int, tied: bool) -> str:
    base = file_type[:4]
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        return "q6_k"
    more = layer is not None and (layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2)
    if ".attn_v." in name or ".ffn_down." in name:
        if file_type == "q4_k_m":
            return "q6_k" if more else "q4_k"
        if file_type == "q5_k_m":
            return "q6_k" if more else "q5_k"
        if file_type == "q4_k_s":
            return "q5_k" if layer is not None and layer < max(1, layers // 8) else "q4_k"
        if file_type == "q3_k_m":
            return "q5_k" if layer is not None and layer < max(2, layers // 16) else "q4_k"
        return "q3_k"
    return base


def size(type_: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor."""
    import gguf

    block, width = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(_IDS[type_])]
    return int(np.prod(shape)) // int(block) * int(width)


def enumerated(type_: str) -> Any:
    """The `gguf` package's value for a type."""
    import gguf

    return gguf.GGMLQuantizationType(_IDS[type_])


def quantised(values: Any, type_: str, name: str) -> np.ndarray[Any, Any]:
    """A 2-D torch tensor in the bytes of `type_`; every part is read back and held to the format's error.

    Raises:
        InputError: what was read back is not what was written within that error.
    """
    rows, columns = values.shape
    out = np.empty((rows, size(type_, (1, columns))), dtype=np.uint8)
    step = max(1, _ROWS_AT_ONCE // columns)
    for start in range(0, rows, step):
        part = np.ascontiguousarray(values[start : start + step].float().numpy())
        made = _turn(part, type_)
        out[start : start + step] = made
        _check(part, made, type_, name)
    return out


def _turn(part: np.ndarray[Any, Any], type_: str) -> np.ndarray[Any, Any]:
    if type_ in _BY_LIBRARY:
        return _by_library(part, type_)
    if type_ == "f16":
        return part.astype(np.float16).view(np.uint8)
    if type_ == "f32":
        return part.view(np.uint8)
    from gguf import quants

    made: np.ndarray[Any, Any] = quants.quantize(part, enumerated(type_)).view(np.uint8)
    return made


def read_back(made: np.ndarray[Any, Any], type_: str) -> np.ndarray[Any, Any]:
    """Numbers from bytes (rows, bytes of a row), by the `gguf` package."""
    if type_ == "f16":
        return made.view(np.float16).astype(np.float32)
    if type_ == "f32":
        return made.view(np.float32)
    from gguf import quants

    values: np.ndarray[Any, Any] = quants.dequantize(made, enumerated(type_))
    return values


def _check(part: np.ndarray[Any, Any], made: np.ndarray[Any, Any], type_: str, name: str) -> None:
    # Formats that hold every row alike need no more than a sample of them.
    rows = slice(None, None, max(1, len(part) // 128))
    wanted, read = part[rows], read_back(made[rows], type_)
    norm = float(np.linalg.norm(wanted))
    error = float(np.linalg.norm(read - wanted)) / norm if norm else 0.0
    if not error <= ERRORS[type_]:
        raise InputError(
            f"{name} in {type_} differs from its weights by {error:.1%}, more than the format's {ERRORS[type_]:.1%}",
            hint="It may hold a few numbers far larger than the rest; take a format of more bits.",
        )


@cache
def has_library() -> bool:
    """Whether xllamacpp is here, whose library quantises to K-quants."""
    from importlib.util import find_spec

    return find_spec("xllamacpp") is not None


@cache
def _library() -> ctypes.CDLL:
    if not has_library():
        raise Unavailable("K-quants are made by xllamacpp, which is not installed", hint="pip install 'allmend[ship]'")
    import xllamacpp.xllamacpp as compiled

    library = ctypes.CDLL(compiled.__file__)
    call = library.ggml_quantize_chunk
    # size_t ggml_quantize_chunk(type, const float *src, void *dst, int64 start, rows, columns, const float *imatrix)
    call.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    call.restype = ctypes.c_size_t
    library.ggml_row_size.argtypes, library.ggml_row_size.restype = [ctypes.c_int, ctypes.c_int64], ctypes.c_size_t
    library.ggml_type_name.argtypes, library.ggml_type_name.restype = [ctypes.c_int], ctypes.c_char_p
    return library


def _by_library(part: np.ndarray[Any, Any], type_: str) -> np.ndarray[Any, Any]:
    library, number = _library(), _IDS[type_]
    rows, columns = part.shape
    out = np.empty((rows, size(type_, (1, columns))), dtype=np.uint8)
    # The numbers of types belong to llama.cpp's ABI: a library that means something else by this one is not used.
    named = (library.ggml_type_name(number) or b"").decode().lower()
    if named != type_ or library.ggml_row_size(number, columns) != out.shape[1]:
        raise Unavailable(f"this version of xllamacpp has another {type_} (it calls type {number} {named!r})")
    written = library.ggml_quantize_chunk(number, part.ctypes.data, out.ctypes.data, 0, rows, columns, None)
    if written != out.nbytes:
        raise Unavailable(f"llama.cpp wrote {written} bytes of {type_} where {out.nbytes} were expected")
    return out
