"""A search's trials in the terminal: a live table with a curve for each, what was stopped and why."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.markup import escape

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from allmend.nouns.search import Search, Trial

_COLOURS = {"running": "cyan", "paused": "default", "waiting": "dim", "stopped": "dim", "finished": "green",
            "diverged": "red", "failed": "red"}  # fmt: skip
_BLOCKS = "▁▂▃▄▅▆▇█"
_EVERY = 0.25
WIDE = 120
"""Columns from which on the table has room for reasons; below it they stand under it."""


class Trials:
    """Draws a search as it goes. The table stays on the screen when it is closed."""

    def __init__(self, console: Console, note: Callable[[str], None]) -> None:
        self._console, self._note = console, note
        self._live: Live | None = None
        self._drawn = 0.0
        self._said: dict[int, tuple[int, str]] = {}
        self._last: Search | None = None

    def show(self, search: Search) -> None:
        """Draw it anew, at most a few times a second; plain lines where there is no terminal."""
        self._last = search
        if not self._console.is_terminal:
            self._say(search)
            return
        if time.monotonic() - self._drawn < _EVERY:
            return
        self._drawn = time.monotonic()
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(trials_table(search, self._wide), refresh=True)

    def close(self) -> None:
        """Leave the table as it is now."""
        if self._live is not None and self._last is not None:
            self._live.update(trials_table(self._last, self._wide), refresh=True)
            self._live.stop()
            self._live = None
            if not self._wide:
                for line in reasons(self._last):
                    self._note(line)

    @property
    def _wide(self) -> bool:
        return self._console.width >= WIDE

    def _say(self, search: Search) -> None:
        for trial in search.trials:
            now = (len(trial.curve), trial.state if trial.why else "")
            if self._said.get(trial.number, (0, "")) == now:
                continue
            before = self._said.get(trial.number, (0, ""))
            self._said[trial.number] = now
            if now[0] > before[0] and trial.score is not None:
                self._note(f"trial {trial.number}: {trial.rows} rows, loss {trial.score:.4f} on selection rows")
            if trial.why and now[1] != before[1]:
                self._note(f"trial {trial.number} {trial.state}: {trial.why}")


def reasons(search: Search) -> list[str]:
    """Why each trial ended, a line for each."""
    return [f"trial {trial.number} {trial.state}: {trial.why}" for trial in search.trials if trial.why]


def trials_table(search: Search, wide: bool = True) -> Table:
    """A row a trial, the best first among equals of how far they came; `wide` says there why each ended."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("trial", "rate", "rank", "batch", "epochs", "rows", "loss", "curve", "state"):
        right = name in {"rate", "rank", "batch", "epochs", "rows", "loss"}
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "state")
    for trial in sorted(search.trials, key=_order):
        best = trial.number == search.winner
        table.add_row(*_row(trial, best, wide), style="bold" if best else None)
    return table


def _order(trial: Trial) -> tuple[int, float]:
    return (-trial.rung, trial.best if trial.best is not None else float("inf"))


def _row(trial: Trial, best: bool, wide: bool) -> list[Any]:
    point = trial.point
    colour = _COLOURS[trial.state]
    words = f"{trial.state}: {trial.why}" if trial.why and wide else trial.state
    mark = f"[green]best{' so far' if wide else ''}[/green], " if best else ""
    state = f"{mark}[{colour}]{escape(words)}[/{colour}]"
    return [
        str(trial.number), f"{point.learning_rate:.2g}", str(point.rank), str(point.batch), f"{point.epochs:g}",
        str(trial.rows), "" if trial.best is None else f"{trial.best:.4f}", sparkline(trial.losses), state,
    ]  # fmt: skip


def sparkline(values: tuple[float, ...], width: int = 16) -> str:
    """Training losses as blocks, on a logarithmic scale: the first fall would hide all else."""
    import math

    if not values:
        return ""
    size = max(1, -(-len(values) // width))
    means = [sum(values[at : at + size]) / len(values[at : at + size]) for at in range(0, len(values), size)]
    logs = [math.log(max(value, 1e-6)) for value in means]
    low, high = min(logs), max(logs)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in logs)
