"""Compiling `gear.cpp`: once a machine, into `ALLMEND_HOME/cache/kernels/`; without a compiler numpy does the work."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from importlib.resources import files

import numpy as np

from allmend.home import home

# No -march: the loop is one dependent chain of adds, which wider registers do not help.
_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared")

Cut = Callable[["np.ndarray[tuple[int], np.dtype[np.uint8]]", bool], list[int]]


@cache
def library() -> tuple[ctypes.CDLL | None, str]:
    """The compiled cutter and where it comes from; or None and why there is none."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        return None, "there is no C++ compiler"
    source = files("allmend.hub.store").joinpath("gear.cpp").read_bytes()
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, timeout=20, check=True).stdout
        machine = os.uname().machine.encode()
        digest = hashlib.sha256(b"\0".join([source, version, machine, " ".join(_FLAGS).encode()])).hexdigest()
        target = home("cache", "kernels") / f"{digest[:32]}.so"
        if not target.is_file():
            hidden = target.with_name(f".{target.name}.{os.getpid()}.new")
            command = [compiler, *_FLAGS, "-x", "c++", "-", "-o", str(hidden)]
            try:
                subprocess.run(command, input=source, capture_output=True, timeout=120, check=True)
                hidden.replace(target)
            finally:
                hidden.unlink(missing_ok=True)
        compiled = ctypes.CDLL(str(target))
        size, pointer = ctypes.c_ssize_t, ctypes.c_void_p
        compiled.allmend_cut.argtypes = [
            pointer, pointer, size, size, size, ctypes.c_uint64, ctypes.c_int, pointer, size,
        ]  # fmt: skip
        compiled.allmend_cut.restype = size
        return compiled, f"compiled by {version.decode(errors='replace').splitlines()[0]}"
    except (OSError, subprocess.SubprocessError, AttributeError, IndexError) as error:
        return None, f"the C++ compiler {compiler} could not make it ({type(error).__name__})"
