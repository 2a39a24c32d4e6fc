"""A data source on the command line: `-` is standard input, so a misspelt flag could be taken for a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allmend.errors import UsageError, nearest

if TYPE_CHECKING:
    from allmend.verbs.settings import Settings


def check_source(source: str, settings: type[Settings]) -> None:
    """Raise `UsageError` naming the nearest flag when `source` looks like one."""
    if source.startswith("-") and source != "-":
        known = ["--" + name.replace("_", "-") for name in (*settings.model_fields, "json", "help")]
        raise UsageError(f"there is no flag {source}", hint=nearest(source, known) or None)
