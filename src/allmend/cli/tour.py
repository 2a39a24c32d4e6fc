"""`allmend tour`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from allmend.cli.live import Terminal
from allmend.cli.show import notes, out, print_json
from allmend.cli.verdict import show_verdict
from allmend.verbs.tour import MODEL, Tour, TourSettings, tour


def command(
    *,
    settings: Annotated[TourSettings, Parameter(name="*")] = TourSettings(),  # noqa: B008
    json: bool = False,
) -> None:
    """The main job, end to end: fetch, check, measure, tune, judge, serve, ask.

    On the embedded model and real movie reviews; about seven minutes on two cores, of which three are training.

    Parameters
    ----------
    json
        Print JSON.
    """
    notes().print(
        "[bold]allmend tour[/bold]: a small open model is made better at judging movie reviews, "
        "on this machine, and the improvement is measured on reviews it never saw."
    )
    with Terminal() as watch:
        result = tour(**dict(settings), watch=watch)
    if json:
        print_json(result)
    else:
        _show(result)


def _show(result: Tour) -> None:
    from rich.markup import escape
    from rich.table import Table

    show = out().print
    show_verdict(result.verdict)
    show("\n[bold]Asked over HTTP[/bold], held-out reviews, untuned and tuned side by side:")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("review", "people say", "untuned", "tuned"):
        table.add_column(name, overflow="fold", max_width=60 if name == "review" else 16)
    for exchange in result.exchanges:
        review = exchange.prompt.split("\n\n", 1)[-1]
        table.add_row(*map(escape, (review, exchange.expected, exchange.base, exchange.tuned)))
    show(table)
    show("\n[bold]Where things lie[/bold]")
    for name, place in result.places.items():
        show(f"  {name:8} {place}", markup=False, soft_wrap=True)
    show("\n[bold]Try next[/bold]")
    show(f"  allmend chat {MODEL} --adapter mine={result.run}", markup=False)
    show(f"  allmend serve {MODEL} --adapter mine={result.run}", markup=False)
    show(f"  allmend tune your-reviews.csv --model {MODEL} --budget 3m", markup=False)
