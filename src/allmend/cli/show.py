"""Where command output goes: results on stdout, progress and notes on stderr."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from allmend.nouns.noun import Noun


@cache
def out() -> Console:
    """The console for results (stdout)."""
    from rich.console import Console

    class Results(Console):
        def on_broken_pipe(self) -> None:
            """Rich would end the program with 1; that the reader went away is no error."""
            raise BrokenPipeError

    return Results(highlight=False, soft_wrap=not sys.stdout.isatty())


@cache
def notes() -> Console:
    """The console for progress and notes (stderr)."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def print_json(value: Noun | object) -> None:
    """Print a noun, or plain JSON values, as JSON on stdout."""
    import json

    from allmend.nouns.noun import Noun

    text = value.to_json() if isinstance(value, Noun) else json.dumps(value, indent=2, ensure_ascii=False)
    sys.stdout.write(text + "\n")
