"""`allmend doctor`."""

from __future__ import annotations

from allmend.cli.show import out, print_json
from allmend.verbs.doctor import doctor

_MARKS = {True: "[green]✓[/green]", False: "[yellow]![/yellow]", None: " "}


def command(*, json: bool = False) -> None:
    """What this machine can do, and why.

    Parameters
    ----------
    json
        Print JSON.
    """
    from rich.markup import escape

    diagnosis = doctor()
    if json:
        print_json(diagnosis)
        return
    for fact in diagnosis.facts:
        out().print(f"{_MARKS[fact.good]} {escape(f'{fact.name:18} {fact.value}')}")
        if fact.hint:
            out().print(f"  {'':18} [dim]{escape(fact.hint)}[/dim]")
