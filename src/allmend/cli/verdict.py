"""`allmend verdict`, and how a verdict is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from allmend.cli.live import Terminal
from allmend.cli.show import out, print_json
from allmend.verbs.verdict import VerdictSettings, verdict

if TYPE_CHECKING:
    from allmend.nouns.verdict import Measure, Verdict

_COLOURS = {"better": "green", "not shown to be better": "yellow", "worse": "red"}


def command(
    run: str,
    /,
    settings: Annotated[VerdictSettings, Parameter(name="*")] = VerdictSettings(),  # noqa: B008
    *,
    json: bool = False,
) -> None:
    """Judge a tuned adapter again, on its own held-out rows or on other rows.

    Parameters
    ----------
    run
        A tune run: its id, its beginning, or `last`.
    json
        Print JSON.
    """
    with Terminal() as watch:
        result = verdict(run, **dict(settings), watch=watch)
    if json:
        print_json(result)
    else:
        show_verdict(result)


def show_verdict(verdict: Verdict) -> None:
    """The words first, then the table they rest on, then rows that changed."""
    from rich.markup import escape
    from rich.table import Table

    show = out().print
    main = verdict.main
    show(f"\n[bold {_COLOURS[verdict.words]}]The tuned model is {verdict.words}.[/]")
    show(
        f"{main.name} {main.base:.3f} → {main.tuned:.3f}, difference {main.difference:+.3f} "
        f"({verdict.confidence:.0%} interval {main.low:+.3f} to {main.high:+.3f}, {verdict.interval}) "
        f"on {verdict.held_out_rows} rows that neither training nor selection saw."
    )
    if verdict.rows_needed:
        show(f"About {verdict.rows_needed} held-out rows would be needed to tell a difference of this size.")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("metric", "untuned", "tuned", "interval of the difference", "rows"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for measure in verdict.measures:
        table.add_row(
            measure.name, f"{measure.base:.3f}", f"{measure.tuned:.3f}", _interval(measure), str(measure.rows)
        )
    show(table)
    if verdict.p_value is not None:
        show(f"{verdict.gained} rows became right, {verdict.lost} became wrong (McNemar p = {verdict.p_value:.2g}).")
    for title, rows in (("became right", verdict.gained_examples), ("became wrong", verdict.lost_examples)):
        for row in rows[:3]:
            show(f"  [dim]{title}:[/dim] {escape(row.prompt)} [dim]({escape(row.base)} → {escape(row.tuned)})[/dim]")
    for note in verdict.notes:
        show(f"[dim]Note: {escape(note)}[/dim]")


def _interval(measure: Measure) -> str:
    if measure.low is None or measure.high is None:
        return "—"
    return f"{measure.low:+.3f} to {measure.high:+.3f}"
