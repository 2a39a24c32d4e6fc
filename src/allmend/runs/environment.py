"""What a run ran on, as far as it is known without loading anything for it."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from allmend import __version__


def environment() -> dict[str, Any]:
    """Versions, machine, processor, cores this process may use, memory; of torch and its kin only if loaded."""
    values: dict[str, Any] = {
        "allmend": __version__,
        "python": platform.python_version(),
        "machine": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory(),
    }
    for name in ("torch", "transformers", "tokenizers", "numpy"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            values[name] = str(version)
    return values


def _cpu() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
