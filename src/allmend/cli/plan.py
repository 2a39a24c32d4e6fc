"""`allmend plan`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from allmend.cli.show import out, print_json
from allmend.verbs.plan import PlanSettings, plan


def command(
    thing: str,
    /,
    settings: Annotated[PlanSettings, Parameter(name="*")] = PlanSettings(),  # noqa: B008
    *,
    json: bool = False,
) -> int:
    """Say what a notebook, script, folder, model or adapter will do before it runs.

    Parameters
    ----------
    thing
        An .ipynb, a percent .py, a folder, a link, - for standard input, or OWNER/NAME of a model.
    json
        Print JSON.
    """
    found = plan(thing, **dict(settings))
    if json:
        print_json(found)
        return 0
    for effect in found.effects:
        out().print(f"{effect.cell:>4} {effect.kind:15} {effect.target}", markup=False)
    return 0
