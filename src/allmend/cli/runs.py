"""`allmend runs`: what was done on this machine, and how runs differ."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from allmend.cli.live import curve
from allmend.cli.show import notes, out, print_json

if TYPE_CHECKING:
    from allmend.nouns.run import Difference, Metric, Run
    from allmend.nouns.search import Search

app = App(name="runs", help="What was done on this machine: list, show, compare, replay.")

_COLOURS = {"done": "green", "running": "cyan", "failed": "red", "interrupted": "yellow"}


@app.default
def list_command(*, verb: str | None = None, limit: int = 20, json: bool = False) -> None:
    """List runs, newest first.

    Parameters
    ----------
    verb
        Only runs of this verb.
    limit
        At most this many.
    json
        Print JSON.
    """
    from allmend import runs

    found = runs.list(verb=verb, limit=limit)
    if json:
        print_json([run.to_dict() for run in found])
        return
    if not found:
        notes().print("No runs yet." if verb is None else f"No runs of {verb!r} yet.")
        return
    table = _table("run", "state", "began", "took", "about", "last figures")
    for run in found:
        figures = "  ".join(f"{metric.name} {_short(metric.last)}" for metric in run.metrics[:3])
        table.add_row(run.id, _state(run), _when(run.started), _took(run), _tail(run.subject or ""), figures)
    out().print(table)


@app.command(name="show")
def show_command(run: str, /, *, json: bool = False) -> None:
    """Show one run: its settings, inputs, choices, figures and outputs.

    Parameters
    ----------
    run
        Its name, the beginning or the end of it, `last`, or `last:VERB`.
    json
        Print JSON.
    """
    from allmend import runs

    found = runs.show(run)
    if json:
        print_json(found)
        return
    out().print(f"[bold]{found.id}[/bold]  {_state(found)}  {_when(found.started)}  {_took(found)}")
    if found.subject:
        out().print(f"about {found.subject}", markup=False)
    if found.error:
        out().print(found.error, style="red", markup=False)
    _rows("settings", ((name, _short(value)) for name, value in found.settings.items()))
    _rows("inputs", ((file.name, file.path, (file.sha256 or "not digested")[:12]) for file in found.inputs))
    _rows("choices", ((choice.name, _short(choice.value), choice.reason) for choice in found.choices))
    _rows("figures", ((m.name, _short(m.last), *_course(found.id, m)) for m in found.metrics))
    _rows("outputs", ((file.name, file.path, (file.sha256 or "not digested")[:12]) for file in found.outputs))
    _rows("environment", ((name, _short(value)) for name, value in found.environment.items()))
    out().print(f"\nfolder  {found.folder}", markup=False)


@app.command(name="compare")
def compare_command(first: str, second: str | None = None, /, *, html: Path | None = None, json: bool = False) -> None:
    """Show what differs between two runs, and their figures side by side; of one run, its trials.

    Parameters
    ----------
    first
        A run, as `show` takes it.
    second
        Another.
    html
        Write the trials of their searches to this file: parallel coordinates and learning curves, no network needed.
    json
        Print JSON.
    """
    from allmend import runs

    if second is None or html is not None:
        searches = _searches(first, second)
        if html is not None:
            from allmend.search.page import write_page

            write_page(html, searches)
            notes().print(f"Trials: {html}", markup=False)
        if second is None:
            _show_search(searches[0], json)
            return
    found = runs.compare(first, second)
    if json:
        print_json(found)
        return
    table = _table("", found.first, found.second)
    for title in ("run", "settings", "inputs", "choices", "metrics", "environment"):
        differences: list[Difference] = getattr(found, title)
        if differences:
            table.add_row(f"[bold]{title}[/bold]")
        for one in differences:
            table.add_row(f"  {_safe(one.name)}", _safe(_short(one.first)), _safe(_short(one.second)))
    out().print(table)
    same = [name for name in ("settings", "inputs", "choices", "environment") if not getattr(found, name)]
    if same:
        notes().print(f"The same in both: {', '.join(same)}.")


@app.command(name="replay")
def replay_command(run: str, /, *, tolerance: float | None = None, json: bool = False) -> None:
    """Do a finished run again and compare.

    A tuning run is trained from its recorded choices and stops, and the bytes are compared. A notebook's run is held
    to its lock, and its outputs are compared: same, close, or different.

    Exits with 1 when the adapters, or the outputs, differ.

    Parameters
    ----------
    run
        A run, as `show` takes it.
    tolerance
        Of a notebook: numbers are close when they differ by at most this share (0.001 by default).
    json
        Print JSON.
    """
    from allmend import runs

    earlier = runs.show(run)
    if earlier.verb == "run":
        _replay_notebook(earlier, tolerance, as_json=json)
        return
    from allmend.cli.live import Terminal
    from allmend.verbs.replay import replay

    with Terminal() as watch:
        found = replay(run, watch=watch)
    if json:
        print_json(found.model_dump(mode="json"))
    elif found.equal:
        out().print(f"Equal: {found.replay} has the same adapters, byte for byte, as {found.run}.", markup=False)
    else:
        out().print(f"Not equal: {', '.join(found.different)} of {found.replay} differ from {found.run}.", markup=False)
        if found.note:
            notes().print(found.note, markup=False)
    if not found.equal:
        raise SystemExit(1)


def _searches(*references: str | None) -> list[Search]:
    """The records of these runs' searches."""
    from allmend import runs
    from allmend.errors import UsageError
    from allmend.search.state import read_record

    found = []
    for reference in references:
        if reference is None:
            continue
        run = runs.show(reference)
        if run.output("search") is None:
            raise UsageError(
                f"the run {run.id} holds no search, so it has no trials to compare",
                hint="Name two runs, or a run of tune that searched.",
            )
        found.append(read_record(Path(run.folder)))
    return found


def _show_search(search: Search, json: bool) -> None:
    if json:
        print_json(search)
        return
    from allmend.cli.trials import WIDE, reasons, trials_table

    wide = out().width >= WIDE
    out().print(trials_table(search, wide))
    if not wide:
        out().print("\n" + "\n".join(reasons(search)), markup=False)
    for line in (search.sentence, search.more_data):
        if line:
            out().print(f"\n{line}", markup=False)


def _replay_notebook(earlier: Run, tolerance: float | None, *, as_json: bool) -> None:
    from allmend.verbs.replay_notebook import replay_notebook

    found = replay_notebook(earlier, tolerance=tolerance)
    if as_json:
        print_json(found)
    else:
        counts = {word: sum(one.alike == word for one in found.outputs) for word in ("same", "close", "different")}
        listed = ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no outputs"
        out().print(f"{found.alike.capitalize()}: {found.second} beside {found.first} ({listed})", markup=False)
        for one in found.outputs:
            if one.alike != "same":
                out().print(f"  {one.where}: {one.alike}: {one.why}", markup=False)
        for text in found.not_compared:
            out().print(f"  not compared: {text}", markup=False)
    if found.alike == "different":
        raise SystemExit(1)


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _course(run: str, metric: Metric) -> tuple[str, str]:
    """Where a figure has been, in words and, of several points, as a line of blocks."""
    from allmend import runs

    if metric.points < 2:
        return f"at step {metric.step}", ""
    words = f"at step {metric.step}, {_short(metric.least)} to {_short(metric.most)}, {metric.points} points"
    values = [point.value for point in runs.series(run, metric.name) if point.value is not None]
    return words, curve(values, 32)


def _rows(title: str, rows: Iterable[tuple[str, ...]]) -> None:
    """A titled table without header; nothing at all when there are no rows."""
    listed = list(rows)
    if not listed:
        return
    table = _table(*[""] * len(listed[0]))
    table.show_header = False
    for row in listed:
        table.add_row("  " + _safe(row[0]), *map(_safe, row[1:]))
    out().print(f"\n[bold]{title}[/bold]")
    out().print(table)


def _safe(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _state(run: Run) -> str:
    return f"[{_COLOURS[run.state]}]{run.state}[/{_COLOURS[run.state]}]"


def _when(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def _took(run: Run) -> str:
    if run.ended is None and run.state != "running":
        return "?"
    seconds = ((run.ended or datetime.now(UTC)) - run.started).total_seconds()
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02}m" if minutes >= 60 else f"{minutes}m{rest:02}s"


def _short(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json_format.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"


def _tail(path: str) -> str:
    return path if len(path) <= 40 else "…" + path[-39:]
