"""`allmend verdict`, and how a verdict is shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from allmend.cli.live import Terminal
from allmend.cli.show import notes, out, print_json
from allmend.verbs.verdict import VerdictSettings, compare, verdict

if TYPE_CHECKING:
    from rich.table import Table

    from allmend.nouns.verdict import ChangedRow, Comparison, Forgetting, Measure, Norms, Verdict

COLOURS = {"better": "green", "not shown to be better": "yellow", "worse": "red"}


def command(
    run: str,
    /,
    *others: str,
    settings: Annotated[VerdictSettings, Parameter(name="*")] = VerdictSettings(),  # noqa: B008
    html: Path | None = None,
    json: bool = False,
) -> None:
    """Judge a tuned adapter again, on its own held-out rows or on other rows; or compare several.

    Parameters
    ----------
    run
        A tune run: its id, its beginning, or `last`.
    others
        More tune runs: all are judged on the same rows and compared with each other.
    html
        Also write a page to this file.
    json
        Print JSON.
    """
    with Terminal() as watch:
        result: Verdict | Comparison
        if others:
            result = compare((run, *others), settings, watch)
        else:
            result = verdict(run, **dict(settings), watch=watch)
    if html is not None:
        from allmend.verdicts.page import write

        write(result, html)
        notes().print(f"Page: {html}", markup=False)
    if json:
        print_json(result)
    elif others:
        show_comparison(result)  # type: ignore[arg-type]
    else:
        show_verdict(result)  # type: ignore[arg-type]


def show_verdict(verdict: Verdict) -> None:
    """The words first, then the table they rest on, then rows that changed, norms, forgetting."""
    from rich.markup import escape

    show = out().print
    main = verdict.main
    show(f"\n[bold {COLOURS[verdict.words]}]The tuned model is {verdict.words}.[/]")
    show(
        f"{main.name} {main.base:.3f} → {main.tuned:.3f}, difference {main.difference:+.3f} "
        f"({verdict.confidence:.0%} interval {main.low:+.3f} to {main.high:+.3f}, {verdict.interval}) "
        f"on {_rows(verdict)} that neither training nor selection saw."
    )
    if verdict.few_shot_words is not None:
        show(
            f"Against the untuned model with {verdict.few_shot} examples in its prompt it is "
            f"[{COLOURS[verdict.few_shot_words]}]{verdict.few_shot_words}[/]."
        )
    if verdict.rows_needed:
        show(f"About {verdict.rows_needed:,} held-out rows would be needed to tell a difference of this size.")
    if verdict.words == "not shown to be better" and verdict.detectable is not None:
        show(f"These rows would show a difference of {verdict.detectable:.3g} or more in 80 of 100 cases.")
    show(_measures(verdict.measures))
    for measure in verdict.measures:
        if measure.failed:
            show(f"[yellow]{measure.name} gave no number for {measure.failed} rows, which are left out:[/]")
            for fault in measure.faults:
                show(f"  {escape(fault)}")
    if verdict.gained or verdict.lost:
        test = f" (p = {verdict.p_value:.2g})" if verdict.p_value is not None else ""
        show(f"{verdict.gained} rows became better, {verdict.lost} became worse{test}.")
    _changed("better", verdict.gained_examples)
    _changed("worse", verdict.lost_examples)
    if verdict.norms is not None:
        _norms(verdict.norms)
    if verdict.forgetting is not None:
        _forgetting(verdict.forgetting)
    for note in verdict.notes:
        show(f"[dim]Note: {escape(note)}[/dim]")


def _rows(verdict: Verdict) -> str:
    main = verdict.main
    if main.rows == verdict.held_out_rows:
        return f"{main.rows} rows"
    return f"{main.rows} of {verdict.held_out_rows} rows"


def _measures(measures: list[Measure]) -> Table:
    table = _table()
    few = any(measure.few_shot is not None for measure in measures)
    names = ("metric", "untuned", *(("with examples",) if few else ()), "tuned", "interval of the difference", "rows")
    for name in names:
        table.add_column(name, justify="left" if name == "metric" else "right")
    for measure in measures:
        examples = "—" if measure.few_shot is None else f"{measure.few_shot:.3f}"
        table.add_row(
            measure.name,
            f"{measure.base:.3f}",
            *((examples,) if few else ()),
            f"{measure.tuned:.3f}",
            _interval(measure.low, measure.high),
            str(measure.rows),
        )
    return table


def _table() -> Table:
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def _changed(how: str, rows: list[ChangedRow]) -> None:
    from rich.markup import escape

    for row in rows[:3]:
        out().print(
            f"  [dim]{how}:[/dim] {escape(row.prompt)} [dim]expected[/dim] {escape(row.expected)} "
            f"[dim]({escape(row.base)} → {escape(row.tuned)})[/dim]"
        )


def _norms(norms: Norms) -> None:
    from rich.markup import escape

    show = out().print
    broken = norms.broken
    if broken:
        show(f"\n[bold red]{len(broken)} of {len(norms.results)} norms are broken[/] ({escape(norms.file)}):")
    else:
        show(f"\n[bold green]All {len(norms.results)} norms hold[/] ({escape(norms.file)}).")
    table = _table()
    for name in ("norm", "untuned", "tuned", "answers"):
        table.add_column(name, justify="left" if name == "norm" else "right")
    for result in norms.results:
        kind = "must" if result.kind == "must" else "must not"
        mark = "[green]holds[/]" if result.holds else f"[red]{result.tuned_held}[/]"
        table.add_row(f"{kind}: {escape(result.name)}", str(result.base_held), mark, str(result.asked))
    show(table)
    for result in broken:
        for row in result.broken[:2]:
            show(f"  [red]broken:[/] {escape(row.prompt)} [dim]→[/dim] {escape(row.tuned)}")
        if result.undecided:
            show(f"  [yellow]{result.undecided} answers could not be decided and count as not held[/]")


def _forgetting(forgetting: Forgetting) -> None:
    from rich.markup import escape

    colour = "green" if forgetting.words == "nothing shown to be lost" else "red"
    out().print(f"\nOf what it could do before, [{colour}]{forgetting.words}[/].")
    out().print(_measures(forgetting.measures))
    for row in forgetting.lost[:3]:
        out().print(f"  [dim]lost:[/dim] {escape(row.prompt)} [dim]({escape(row.base)} → {escape(row.tuned)})[/dim]")
    out().print(f"[dim]From: {escape('; '.join(forgetting.sources))}.[/dim]")


def show_comparison(comparison: Comparison) -> None:
    """All pairs of runs."""
    from rich.markup import escape

    show = out().print
    show(f"\n{comparison.metric} on {comparison.rows} rows that no run has seen\n")
    table = _table()
    table.add_column("model")
    table.add_column(comparison.metric, justify="right")
    order = sorted(comparison.values.items(), key=lambda pair: pair[1], reverse=comparison.higher_is_better)
    for name, value in order:
        table.add_row(escape(name), f"{value:.3f}")
    show(table)
    show("")
    table = _table()
    for name in ("", "", "", "difference", "interval", "p, adjusted"):
        table.add_column(name, justify="right" if name else "left")
    for pair in comparison.pairs:
        table.add_row(
            escape(pair.second),
            f"[{COLOURS[pair.words]}]{pair.words}[/]",
            f"than {escape(pair.first)}",
            f"{pair.difference:+.3f}",
            _interval(pair.low, pair.high),
            f"{pair.adjusted_p_value:.2g}",
        )
    show(table)
    for note in comparison.notes:
        show(f"[dim]Note: {escape(note)}[/dim]")


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "—"
    return f"{low:+.3f} to {high:+.3f}"
