"""Where the database is."""

from __future__ import annotations

import os

from allmend.home import root


def address() -> str:
    """The database's URL: `ALLMEND_DATABASE`, or `allmend.sqlite` in allmend's own folder."""
    named = os.environ.get("ALLMEND_DATABASE")
    return named if named else f"sqlite:///{root() / 'allmend.sqlite'}"
