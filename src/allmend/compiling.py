"""Compiling C++ on first use.

A C++ compiler makes a library once a machine, into `ALLMEND_HOME/cache/kernels/`, under a name that holds the digest of
sources, compiler, flags and processor. There is no build step and nothing to install: whoever asks has a plain way to
do the same work without a compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from pathlib import Path, PurePosixPath

from allmend.home import home

_SECONDS = 300.0
_SOURCES = (".cpp", ".hpp")


def library(
    package: str, main: str, flags: Sequence[str], prepare: Callable[[ctypes.CDLL], None], *, openmp: bool = False
) -> tuple[ctypes.CDLL | None, str]:
    """The compiled library and where it comes from; or None and why there is none.

    Args:
        package: where the sources are.
        main: the file there that is compiled; it may include others that lie beside it.
        prepare: gives the library's functions their types; an `AttributeError` means that it lacks one.
        openmp: it has threads, which shall be torch's own.
    """
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        return None, "there is no C++ compiler"
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, timeout=20, check=True).stdout
        *above, file = PurePosixPath(main).parts
        with as_file(files(package).joinpath(*above)) as folder:
            sources = [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in _SOURCES]
            parts = [*sources, file.encode(), version, " ".join(flags).encode(), _processor()]
            digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
            target = home("cache") / "kernels" / f"{digest[:32]}.so"
            if not target.is_file():
                _compile([compiler, *flags, str(folder / file)], target)
        if openmp:
            _one_thread_pool()
        compiled = ctypes.CDLL(str(target))
        prepare(compiled)
        return compiled, f"compiled by {version.decode(errors='replace').splitlines()[0]}"
    except (OSError, subprocess.SubprocessError, AttributeError, IndexError) as error:
        return None, f"the C++ compiler {compiler} could not make it ({type(error).__name__})"


def _processor() -> bytes:
    """What `-march=native` depends on."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return os.uname().machine.encode()
    return next((line for line in text.splitlines() if line.startswith("flags")), os.uname().machine).encode()


def _compile(command: list[str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Threads, and machines that share a home, may make the same one at the same time.
    hidden = target.with_name(f".{target.name}.{secrets.token_hex(8)}.new")
    try:
        subprocess.run([*command, "-o", str(hidden)], capture_output=True, timeout=_SECONDS, check=True)
        hidden.replace(target)
    finally:
        hidden.unlink(missing_ok=True)


def _one_thread_pool() -> None:
    """Bind to the OpenMP that torch carries, so that matmuls and kernels share one pool of threads."""
    import torch

    for name in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*")):
        ctypes.CDLL(str(name), mode=ctypes.RTLD_GLOBAL)
