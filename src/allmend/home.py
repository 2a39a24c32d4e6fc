"""The one folder where allmend keeps things: records, fetched models, converted weights, runs.

`ALLMEND_HOME` names it; without that it is `allmend` under `XDG_DATA_HOME` (usually `~/.local/share`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path


def root() -> Path:
    """The folder, which may not be there yet: for those who only read."""
    named = os.environ.get("ALLMEND_HOME")
    if named:
        return Path(named).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME")
    # A relative XDG path is not valid and to be ignored (XDG Base Directory Specification).
    return (Path(data) if data and Path(data).is_absolute() else Path.home() / ".local" / "share") / "allmend"


def home(*parts: str) -> Path:
    """The folder, or a folder below it, made if it is not there."""
    folder = root().joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def file_name(text: str) -> str:
    """`text` as one safe, readable path component."""
    return re.sub(r"[^A-Za-z0-9._@-]+", "--", text).strip(".-") or "unnamed"
