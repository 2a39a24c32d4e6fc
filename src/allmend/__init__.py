"""allmend: the workbench for open generative AI.

Verbs and nouns live here by name and are imported on first use, so that `import allmend` is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from allmend import data, runs
    from allmend.errors import AllmendError
    from allmend.nouns import Permissions, Plan, Receipt
    from allmend.verbs.chat import chat
    from allmend.verbs.plan import plan
    from allmend.verbs.run import run
    from allmend.verbs.serve import serve

_HOMES = {
    "AllmendError": "allmend.errors",
    "Permissions": "allmend.nouns",
    "Plan": "allmend.nouns",
    "Receipt": "allmend.nouns",
    "chat": "allmend.verbs.chat",
    "plan": "allmend.verbs.plan",
    "run": "allmend.verbs.run",
    "serve": "allmend.verbs.serve",
}

_ROOMS = ("data", "runs")
"""Group words: `allmend.runs.list()`."""

__all__ = ["AllmendError", "Permissions", "Plan", "Receipt", "chat", "data", "plan", "run", "runs", "serve"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return importlib.import_module(f"allmend.{name}")
    raise AttributeError(f"module 'allmend' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
