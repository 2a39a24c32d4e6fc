"""The compiled `gear.cpp`; without a compiler numpy does the work."""

from __future__ import annotations

import ctypes
from functools import cache

from allmend import compiling

# No -march: the loop is one dependent chain of adds, which wider registers do not help.
_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared")


@cache
def library() -> tuple[ctypes.CDLL | None, str]:
    """The compiled cutter and where it comes from; or None and why there is none."""
    return compiling.library("allmend.hub.store", "gear.cpp", _FLAGS, _typed)


def _typed(compiled: ctypes.CDLL) -> None:
    size, pointer = ctypes.c_ssize_t, ctypes.c_void_p
    compiled.allmend_cut.argtypes = [
        pointer, pointer, size, size, size, ctypes.c_uint64, ctypes.c_int, pointer, size,
    ]  # fmt: skip
    compiled.allmend_cut.restype = size
