"""Compiling the step on first use.

A C++ compiler makes it once a machine, in about five seconds, into `ALLMEND_HOME/cache/kernels/`, under a name that
holds the digest of sources, compiler and processor. There is nothing to install: without a compiler the packed
forward pass through transformers does the same work.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import torch

from allmend.home import home

# Without -fassociative-math: the order of every sum is the one that is written.
_FLAGS = (
    "-std=c++20", "-O3", "-march=native", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip


@cache
def library(*defines: str) -> tuple[ctypes.CDLL | None, str]:
    """The compiled step and where it comes from; or None and why there is none.

    Args:
        defines: macros for the compiler; `PORTABLE` leaves out what only some processors have.
    """
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        return None, "there is no C++ compiler"
    flags = [*_FLAGS, *(f"-D{name}" for name in defines)]
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, timeout=20, check=True).stdout
        with as_file(files("allmend.engines.torch.native").joinpath("kernels")) as folder:
            sources = [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".cpp", ".hpp")]
            parts = [*sources, version, " ".join(flags).encode(), _processor()]
            target = home("cache") / "kernels" / f"{hashlib.sha256(b'/'.join(parts)).hexdigest()[:32]}.so"
            if not target.is_file():
                _compile([compiler, *flags, str(folder / "step.cpp")], target)
        _one_thread_pool()
        found = ctypes.CDLL(str(target))
        found.room_new.restype = ctypes.c_void_p
        found.room_free.argtypes = (ctypes.c_void_p,)
        found.step.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        found.step.restype = None
        found.draw.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int)
        found.draw.restype = None
        return found, f"compiled by {version.decode(errors='replace').splitlines()[0]}"
    except (OSError, subprocess.SubprocessError, AttributeError, IndexError) as error:
        return None, f"the C++ compiler {compiler} could not make it ({type(error).__name__})"


def _processor() -> bytes:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return os.uname().machine.encode()
    return next((line for line in text.splitlines() if line.startswith("flags")), os.uname().machine).encode()


def _compile(command: list[str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    hidden = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        subprocess.run([*command, "-o", str(hidden)], capture_output=True, timeout=300, check=True)
        hidden.replace(target)
    finally:
        hidden.unlink(missing_ok=True)


def _one_thread_pool() -> None:
    """Bind to the OpenMP that torch carries, so that there is one pool of threads."""
    for name in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*")):
        ctypes.CDLL(str(name), mode=ctypes.RTLD_GLOBAL)
