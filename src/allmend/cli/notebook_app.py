"""`allmend app`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from allmend.verbs.app import AppSettings

if TYPE_CHECKING:
    from allmend.verbs.run import Prepared


def command(
    notebook: Path,
    /,
    *,
    settings: Annotated[AppSettings, Parameter(name="*")] = AppSettings(),  # noqa: B008
) -> None:
    """Serve a notebook, or a folder of them, as a page and an HTTP API, until Ctrl-C.

    Parameters
    ----------
    notebook
        The notebook (.ipynb), percent script (.py) or folder of notebooks.
    """
    from allmend.cli.show import notes, out
    from allmend.verbs.app import start

    signal.signal(signal.SIGTERM, _stop)
    interactive = sys.stdin.isatty() and sys.stderr.isatty()
    with start(notebook, settings, agree=_agree if interactive else None) as server:
        show = out().print
        show(f"[bold]Open {server.url}[/bold]  (Ctrl-C ends it)", soft_wrap=True)
        for each in server.apps:
            findings = ", ".join(finding.title for finding in each.plan.findings) or "no findings"
            show(
                f"  {each.path.name}: {len(each.parameters)} parameters, held at level {each.level}; {findings}",
                markup=False,
            )
        show(f"  as an API: POST {server.url.partition('?')[0]}runs, described at /openapi.json", markup=False)
        out().file.flush()
        try:
            server.wait()
        finally:
            notes().print("Stopping the runs …")


def _agree(prepared: Prepared) -> bool:
    from allmend.cli.run import show_proposal
    from allmend.cli.run_terminal import question

    show_proposal(prepared)
    return question("Serve it with these permissions?")


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt
