"""The machine and the versions that a figure was made with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def machine() -> dict[str, object]:
    """Cores, processor, Python and the packages that matter here."""
    found: dict[str, object] = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    with Path("/proc/cpuinfo").open() as handle:
        names = [line.partition(":")[2].strip() for line in handle if line.startswith("model name")]
    found["processor"] = names[0] if names else platform.machine()
    for package in ("torch", "transformers", "scipy", "numpy", "allmend"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
