"""`allmend doctor`."""

from __future__ import annotations


def command(*, json: bool = False) -> None:
    """What this machine can do, and why.

    Parameters
    ----------
    json
        Print JSON.
    """
