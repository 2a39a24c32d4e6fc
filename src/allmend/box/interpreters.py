"""The Python interpreters of this machine, by minor version: a notebook gets the one it asks for, or a refusal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from allmend.box.document import Document
from allmend.errors import Unavailable, UsageError

OLDEST = (3, 10)
"""The oldest minor version that runs today's kernel."""
_OTHER_KERNELS = ("ir", "julia", "bash", "javascript", "python2")


def wanted(document: Document) -> str | None:
    """The minor version a notebook's kernel name asks for (`python3.10`), None where any will do.

    Raises `Unavailable` for a kernel that is no Python 3.
    """
    found = document.content["metadata"].get("kernelspec")
    kernel = found if isinstance(found, dict) else {}
    name, language = str(kernel.get("name", "")), str(kernel.get("language", "python"))
    if language.lower() not in ("python", "ipython", "") or name.lower() in _OTHER_KERNELS:
        raise Unavailable(
            f"this notebook wants the kernel {name or language!r}; only Python 3 kernels run in the box",
            where=str(document.path),
        )
    match = re.fullmatch(r"python-?3[.-]?(\d{1,2})", name.lower())
    return f"3.{int(match[1])}" if match else None


def find(version: str) -> str:
    """The path of an interpreter of that minor version; raises `UsageError`, or `Unavailable` naming those here."""
    if version == ".".join(map(str, sys.version_info[:2])):
        return os.path.realpath(sys.executable)
    if not re.fullmatch(r"3\.\d{1,2}", version):
        raise UsageError(f"{version!r} is not a Python version", where="--python", hint="Write it like 3.12.")
    if tuple(map(int, version.split("."))) < OLDEST:
        raise Unavailable(f"Python {version} is too old for the kernel", hint="Use 3.10 or later: --python 3.12.")
    for path in _candidates(version):
        if _version_of(path) == version:
            return os.path.realpath(path)
    here = ", ".join(sorted(_here(), key=lambda text: int(text[2:])))
    raise Unavailable(
        f"there is no Python {version} on this machine (there is: {here})",
        hint=f"Install it (`uv python install {version}`), or choose another with --python.",
    )


def _here() -> set[str]:
    own = ".".join(map(str, sys.version_info[:2]))
    later = (f"3.{minor}" for minor in range(OLDEST[1], 20))
    return {own} | {v for v in later if any(_version_of(path) == v for path in _candidates(v))}


def _candidates(version: str) -> Iterator[str]:
    """Where interpreters lie: the search path, and where pyenv and uv keep theirs."""
    name = f"python{version}"
    home = Path.home()
    for folder in dict.fromkeys([*os.environ.get("PATH", "").split(os.pathsep), "/usr/local/bin", "/usr/bin"]):
        if folder and "shims" not in folder:  # a shim only runs the version that is switched on
            yield str(Path(folder, name))
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    kept = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    for found in (*sorted(pyenv.glob(f"versions/{version}*")), *sorted(kept.glob(f"cpython-{version}*"))):
        yield str(found / "bin" / name)


@lru_cache(maxsize=64)
def _version_of(path: str) -> str | None:
    if not os.access(path, os.X_OK):
        return None
    command = [path, "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
