"""`allmend plan`: the page in the terminal, and the other forms of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from allmend.cli.show import notes, out, print_json
from allmend.errors import DangerousPlan, InputError, UsageError, nearest
from allmend.verbs.plan import PlanSettings, plan

if TYPE_CHECKING:
    from allmend.nouns.plan import Plan


def command(
    thing: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    settings: Annotated[PlanSettings, Parameter(name="*")] = PlanSettings(),  # noqa: B008
    json: bool = False,
    sarif: bool = False,
    html: Path | None = None,
    diff: Path | None = None,
    strict: bool = False,
) -> int:
    """Say what a notebook, script, folder, model or adapter will do before it runs. Nothing is executed.

    Parameters
    ----------
    thing
        An .ipynb, a percent .py, a folder, a link, - for standard input, a model file, or OWNER/NAME of a model.
    json
        Print JSON.
    sarif
        Print SARIF 2.1.0, for code scanning.
    html
        Write one HTML file, without scripts.
    diff
        An older version (the notebook, or its plan as JSON): say what changed since.
    strict
        Exit with 3 when a finding is dangerous.
    """
    if thing.startswith("--"):
        flags = [
            *(f"--{name}" for name in PlanSettings.model_fields),
            "--json",
            "--sarif",
            "--html",
            "--diff",
            "--strict",
        ]
        raise UsageError(f"there is no flag {thing}", hint=nearest(thing, flags) or None)
    found = plan(thing, **dict(settings))
    if diff is not None:
        _diff(diff, found, as_json=json)
    elif json:
        print_json(found)
    elif sarif:
        from allmend.planning.sarif import sarif as as_sarif

        print_json(as_sarif(found))
    elif html is None:
        from allmend.cli.plan_page import show

        show(found, out())
    if html is not None:
        from allmend.planning.html import page

        html.write_text(page(found), "utf-8")
        notes().print(f"Written to {html}", markup=False)
    dangers = [finding for finding in found.findings if finding.severity == "danger"]
    if strict and dangers:
        raise DangerousPlan(
            f"{len(dangers)} dangerous finding{'s' if len(dangers) > 1 else ''}: "
            + "; ".join(f.title for f in dangers[:3]),
            where=found.subject.path,
        )
    return 0


def _diff(older: Path, new: Plan, *, as_json: bool) -> None:
    from allmend.cli.plan_page import show_diff
    from allmend.planning.diff import diff

    change = diff(_older(older), new)
    if as_json:
        print_json(change)
    else:
        show_diff(change, out())


def _older(path: Path) -> Plan:
    if path.suffix == ".json" and path.is_file():
        from pydantic import ValidationError

        from allmend.nouns.plan import Plan

        try:
            return Plan.model_validate_json(path.read_bytes())
        except ValidationError:
            raise InputError(
                "this JSON is no plan", where=str(path), hint="allmend plan THING --json > plan.json"
            ) from None
    return plan(path)
