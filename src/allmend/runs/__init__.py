"""The record of every run.

    with record("tune", settings=…, subject=…) as run:
        run.id, run.folder (Path, made)
        run.input(path, name=None, sha256=None)      run.output(name, path, sha256=None)
        run.choice(name, value, reason)              run.metric(step, {"eval/loss": 0.3}, loss=0.2)
        run.flush()                                  metrics reach the database within 0.25 s anyway
    list(verb=None, limit=50) -> [Run]               newest first
    show(ref) -> Run                                 ref: an id, its beginning or end, `last`, `last:tune`
    series(ref, name) -> [MetricPoint]               resolve(ref) -> id
    compare(ref, ref) -> RunComparison

Importing this imports no database; the first record or question does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allmend.runs.recording import Recorder, record
    from allmend.runs.records import compare, resolve, series, show
    from allmend.runs.records import list_runs as list

_HOMES = {
    "Recorder": "recording.Recorder",
    "record": "recording.record",
    "compare": "records.compare",
    "list": "records.list_runs",
    "resolve": "records.resolve",
    "series": "records.series",
    "show": "records.show",
}

__all__ = ["Recorder", "compare", "list", "record", "resolve", "series", "show"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        module, _, attribute = _HOMES[name].partition(".")
        return getattr(importlib.import_module(f"allmend.runs.{module}"), attribute)
    raise AttributeError(f"module 'allmend.runs' has no attribute {name!r}")
