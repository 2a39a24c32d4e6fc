"""The values that rooms hand to each other: typed, immutable, with a JSON form.

Each file holds one noun. Importing a name from here loads only that noun's file.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allmend.nouns.permissions import Permissions
    from allmend.nouns.plan import Plan
    from allmend.nouns.receipt import Receipt

_HOMES = {
    "Permissions": "allmend.nouns.permissions",
    "Plan": "allmend.nouns.plan",
    "Receipt": "allmend.nouns.receipt",
}

__all__ = ["Permissions", "Plan", "Receipt"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'allmend.nouns' has no attribute {name!r}")
