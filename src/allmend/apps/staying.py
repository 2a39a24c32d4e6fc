"""A run after its last cell: open while somebody uses its web servers, or what buttons in its outputs call."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allmend.apps.runs import AppRun
    from allmend.apps.serving import RunServers
    from allmend.box.box import Box
    from allmend.box.job import Later

IDLE_SECONDS = 15 * 60.0
"""A run that only serves ends when nobody has used it for so long."""
_COMES_SECONDS = 30.0
_LOOK_SECONDS = 0.3


def stay(run: AppRun, box: Box, later: Later, web: RunServers | None, release: Callable[[], object]) -> None:
    """Return when the run need not stay open: it shows nothing to use, nobody uses it, or a person ended it.

    Args:
        later: runs the code of a click.
        web: the notebook's web servers, where they are shown.
        release: gives the run's place among those that run together to the next one.
    """
    until = time.monotonic() + (_COMES_SECONDS if web is not None and (web.expected or box.services.awaited) else 0.0)
    serves = web is not None and box.look_for_servers()
    while not serves and not box.services.called_later:
        if box.ended is not None or web is None or time.monotonic() > until:
            return
        time.sleep(_LOOK_SECONDS)
        serves = box.look_for_servers()
    run.serving(buttons=box.services.called_later)
    release()
    clicked_at = time.monotonic()
    while box.ended is None:
        call = run.next_call(_LOOK_SECONDS)
        if call is not None:
            run.called(call, later(call.cell, _source(call.name, call.args, call.kwargs)))
            clicked_at = time.monotonic()
            continue
        idle = time.monotonic() - clicked_at
        if web is not None and (serves := serves or box.look_for_servers()):
            idle = min(idle, web.idle_seconds())
        if idle > IDLE_SECONDS:
            box.stop("finished", f"nobody used it for {IDLE_SECONDS / 60:g} minutes")


def _source(name: str, args: list[object], kwargs: dict[str, object]) -> str:
    """One expression, so that no name of the notebook's is touched; its value is the answer."""
    call = json.dumps([name, args, kwargs])
    return f"__import__('google.colab.output', fromlist=['_clicked'])._clicked({call!r})"
