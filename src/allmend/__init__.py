"""allmend: the workbench for open generative AI.

Verbs and nouns live here by name and are imported on first use, so that `import allmend` is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from allmend import access, data, models, runs
    from allmend.errors import AllmendError
    from allmend.nouns import Lock, Permissions, Plan, Receipt
    from allmend.verbs.app import app
    from allmend.verbs.benchmark import benchmark
    from allmend.verbs.chat import chat
    from allmend.verbs.data_check import data_check
    from allmend.verbs.doctor import doctor
    from allmend.verbs.index import index
    from allmend.verbs.lock import lock
    from allmend.verbs.plan import plan
    from allmend.verbs.run import run
    from allmend.verbs.serve import serve
    from allmend.verbs.ship import ship
    from allmend.verbs.start_hub import start_hub
    from allmend.verbs.tour import tour
    from allmend.verbs.tune import tune
    from allmend.verbs.verdict import verdict

_HOMES = {
    "AllmendError": "allmend.errors",
    "Lock": "allmend.nouns",
    "Permissions": "allmend.nouns",
    "Plan": "allmend.nouns",
    "Receipt": "allmend.nouns",
    "app": "allmend.verbs.app",
    "benchmark": "allmend.verbs.benchmark",
    "chat": "allmend.verbs.chat",
    "data_check": "allmend.verbs.data_check",
    "doctor": "allmend.verbs.doctor",
    "index": "allmend.verbs.index",
    "lock": "allmend.verbs.lock",
    "plan": "allmend.verbs.plan",
    "run": "allmend.verbs.run",
    "serve": "allmend.verbs.serve",
    "ship": "allmend.verbs.ship",
    "start_hub": "allmend.verbs.start_hub",
    "tour": "allmend.verbs.tour",
    "tune": "allmend.verbs.tune",
    "verdict": "allmend.verbs.verdict",
}

_ROOMS = ("access", "data", "models", "runs")
"""Group words: `allmend.runs.list()`."""

__all__ = [
    "AllmendError",
    "Lock",
    "Permissions",
    "Plan",
    "Receipt",
    "access",
    "app",
    "benchmark",
    "chat",
    "data",
    "data_check",
    "doctor",
    "index",
    "lock",
    "models",
    "plan",
    "run",
    "runs",
    "serve",
    "ship",
    "start_hub",
    "tour",
    "tune",
    "verdict",
]


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
