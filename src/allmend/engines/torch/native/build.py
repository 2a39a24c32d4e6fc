"""The compiled step; without a compiler the packed forward pass through transformers does the same work."""

from __future__ import annotations

import ctypes
from functools import cache

from allmend import compiling

# Without -fassociative-math: the order of every sum is the one that is written.
_FLAGS = (
    "-std=c++20", "-O3", "-march=native", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip


@cache
def library(*defines: str) -> tuple[ctypes.CDLL | None, str]:
    """The compiled step and where it comes from; or None and why there is none. The first call takes five seconds.

    Args:
        defines: macros for the compiler; `PORTABLE` leaves out what only some processors have.
    """
    flags = [*_FLAGS, *(f"-D{name}" for name in defines)]
    return compiling.library("allmend.engines.torch.native", "kernels/step.cpp", flags, _typed, openmp=True)


def _typed(compiled: ctypes.CDLL) -> None:
    compiled.room_new.restype = ctypes.c_void_p
    compiled.room_free.argtypes = (ctypes.c_void_p,)
    compiled.step.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    compiled.step.restype = None
    compiled.draw.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int)
    compiled.draw.restype = None
