"""The values that rooms hand to each other: typed, immutable, with a JSON form.

Each file holds one noun. Importing a name from here loads only that noun's file.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allmend.nouns.data_report import DataReport
    from allmend.nouns.examples import Examples
    from allmend.nouns.likeness import Likeness
    from allmend.nouns.lock import Lock, LockReport
    from allmend.nouns.notebook import Notebook
    from allmend.nouns.permissions import Permissions
    from allmend.nouns.plan import Plan
    from allmend.nouns.receipt import Receipt
    from allmend.nouns.release import Release, Verification
    from allmend.nouns.run import Run, RunComparison

_HOMES = {
    "DataReport": "allmend.nouns.data_report",
    "Examples": "allmend.nouns.examples",
    "Likeness": "allmend.nouns.likeness",
    "Lock": "allmend.nouns.lock",
    "LockReport": "allmend.nouns.lock",
    "Notebook": "allmend.nouns.notebook",
    "Permissions": "allmend.nouns.permissions",
    "Plan": "allmend.nouns.plan",
    "Receipt": "allmend.nouns.receipt",
    "Release": "allmend.nouns.release",
    "Run": "allmend.nouns.run",
    "RunComparison": "allmend.nouns.run",
    "Verification": "allmend.nouns.release",
}

__all__ = [
    "DataReport",
    "Examples",
    "Likeness",
    "Lock",
    "LockReport",
    "Notebook",
    "Permissions",
    "Plan",
    "Receipt",
    "Release",
    "Run",
    "RunComparison",
    "Verification",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'allmend.nouns' has no attribute {name!r}")
