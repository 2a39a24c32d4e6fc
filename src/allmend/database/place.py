"""Where allmend keeps what it records: one folder, one database."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """`ALLMEND_HOME`, or `allmend` in the XDG data folder. Not created here."""
    named = os.environ.get("ALLMEND_HOME")
    if named:
        return Path(named).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME")
    base = Path(data) if data and Path(data).is_absolute() else Path.home() / ".local" / "share"
    return base / "allmend"


def address() -> str:
    """The database's URL: `ALLMEND_DATABASE`, or `allmend.sqlite` in `home()`."""
    named = os.environ.get("ALLMEND_DATABASE")
    return named if named else f"sqlite:///{home() / 'allmend.sqlite'}"
