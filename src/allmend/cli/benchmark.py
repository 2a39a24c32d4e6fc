"""`allmend benchmark`: the table of scenario and metric over models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from allmend.cli.live import Terminal
from allmend.cli.show import notes, out, print_json
from allmend.verbs.benchmark import BenchmarkSettings, benchmark

if TYPE_CHECKING:
    from allmend.nouns.benchmarks import Benchmarks, Score


def command(
    model: str,
    /,
    *others: str,
    settings: Annotated[BenchmarkSettings, Parameter(name="*")] = BenchmarkSettings(),  # noqa: B008
    html: Path | None = None,
    json: bool = False,
) -> None:
    """Ask standard benchmarks of models and tuned runs, through lm-eval, on local rows.

    Parameters
    ----------
    model
        A model, or a tune run; the others are compared with it.
    others
        More of them.
    html
        Also write a page to this file.
    json
        Print JSON.
    """
    with Terminal() as watch:
        table = benchmark((model, *others), **dict(settings), watch=watch)
    if html is not None:
        from allmend.verdicts.page import write

        write(table, html)
        notes().print(f"Page: {html}", markup=False)
    if json:
        print_json(table)
    else:
        show_table(table)


def show_table(benchmarks: Benchmarks) -> None:
    """The table, what stands out in it, and where the rows come from."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("scenario")
    table.add_column("metric")
    for model in benchmarks.models:
        table.add_column(escape(model), justify="right")
    for scenario in benchmarks.scenarios:
        metrics = dict.fromkeys(score.metric for score in benchmarks.scores if score.scenario == scenario.name)
        for metric in metrics:
            cells = [_cell(benchmarks.score(scenario.name, metric, model), benchmarks) for model in benchmarks.models]
            table.add_row(scenario.name, metric, *cells)
    out().print(table)
    for scenario in benchmarks.scenarios:
        out().print(
            f"[dim]{scenario.name}: {scenario.rows} rows, {scenario.few_shot} examples in the prompt; "
            f"{escape(scenario.source)}. {escape(scenario.note)}[/dim]"
        )
    for note in benchmarks.notes:
        out().print(f"[dim]Note: {escape(note)}[/dim]")


def _cell(score: Score | None, benchmarks: Benchmarks) -> str:
    if score is None:
        return "—"
    shown = f"{score.value:.3f}" + (f" ± {score.error:.3f}" if score.error is not None else "")
    if score.adjusted_p_value is not None and score.adjusted_p_value <= 1 - benchmarks.confidence and score.difference:
        colour = "green" if score.difference > 0 else "red"
        return f"[{colour}]{shown}[/{colour}]"
    return shown
