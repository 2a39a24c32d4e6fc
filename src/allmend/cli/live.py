"""Drawing long work in the terminal: stages, bars with a rate and an estimate, a loss curve, notes."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.markup import escape

from allmend.cli.show import notes
from allmend.cli.trials import sparkline
from allmend.verbs.watching import Watch

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from allmend.cli.trials import Trials
    from allmend.nouns.choice import Choice
    from allmend.nouns.data_report import DataReport
    from allmend.nouns.model import Model
    from allmend.nouns.search import Search
    from allmend.tuning.loop import Step

_MARKS = {"blocking": "[red]stops tuning[/red]", "warning": "[yellow]warning[/yellow]", "note": "[cyan]note[/cyan]"}
_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDE = 90
"""Columns from which on there is room for a long bar and the speed."""
_BESIDE = 16
"""Columns of a bar's name and of the space around its parts."""


def curve(values: list[float], width: int = 48) -> str:
    """Numbers as a line of blocks, averaged down to `width`."""
    if not values:
        return ""
    size = max(1, -(-len(values) // width))
    means = [
        sum(values[start : start + size]) / len(values[start : start + size]) for start in range(0, len(values), size)
    ]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in means)


def blocks(counts: list[int]) -> str:
    """Counts as a line of blocks, nothing as a space."""
    most = max(counts, default=0)
    scale = (len(_BLOCKS) - 1) / most if most else 0
    return "".join(_BLOCKS[round(count * scale)] if count else " " for count in counts)


class Terminal(Watch):
    """Draws to stderr while it is entered; plain lines where stderr is no terminal."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = notes()
        self._bar_width = 28 if self._console.width >= _WIDE else 8
        self._bars: Progress = Progress(
            TextColumn("  {task.description}"), BarColumn(bar_width=self._bar_width),
            TextColumn("{task.fields[shown]}"),
            console=self._console, transient=True,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, tuple[float, int]] = {}
        self._losses: list[float] = []
        self._said = 0.0
        self._start = time.monotonic()
        self._trials: Trials | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._trials is not None:
            self._trials.close()
        if self._console.is_terminal:
            self._bars.stop()

    def stage(self, text: str) -> None:
        """A stage on a line of its own, with the time since the start; bars of the one before go."""
        if self._trials is not None:
            self._trials.close()
            self._trials = None
            if self._console.is_terminal:
                self._bars.start()
        for task in self._tasks.values():
            self._bars.remove_task(task)
        self._tasks.clear()
        self._console.print(f"[dim]{_clock(time.monotonic() - self._start)}[/dim] [bold]{escape(text)}[/bold]")

    def note(self, text: str) -> None:
        """A note, indented."""
        self._indented(escape(text))

    def _indented(self, markup: str) -> None:
        """Text two columns in; in a terminal also the lines that it goes on in."""
        if not self._console.is_terminal:
            self._console.print(f"  {markup}")
            return
        from rich.padding import Padding
        from rich.text import Text

        self._console.print(Padding(Text.from_markup(markup), (0, 0, 0, 2), expand=False))

    def amount(self, what: str, done: int, total: int) -> None:
        """A bar with rate and estimate."""
        now = time.monotonic()
        start, first = self._begun.setdefault(what, (now, done))
        rate = (done - first) / (now - start) if now > start else 0.0
        shown = _bytes(done, total) if total > 10_000 else f"{done}/{total}"
        if rate > 0 and total > 10_000 and done < total:
            shown += f"  {rate / 2**20:.1f} MiB/s  {_clock((total - done) / rate)} left"
        self._bar(what, done, total, shown)

    def model(self, model: Model) -> None:
        """Name, size, licence and what it asks."""
        licence = model.licence or "no licence stated"
        self.note(f"{model.name}: {model.size / 2**20:.0f} MiB, {licence}, SHA-256 {model.digest[:12]}…")
        if model.terms:
            self.note(model.terms + (f" Full text: {model.licence_file}" if model.licence_file else ""))

    def choice(self, choice: Choice) -> None:
        """An automatic choice with its reason."""
        value = f"{choice.value:.4g}" if isinstance(choice.value, float) else str(choice.value)
        self._indented(f"{choice.name} = {escape(value)}  [dim]({escape(choice.reason)})[/dim]")

    def data(self, report: DataReport) -> None:
        """Rows, classes, lengths and problems."""
        if report.labels:
            shares = ", ".join(f"{label} {count}" for label, count in list(report.labels.items())[:8])
            self.note(f"{report.rows} rows; labels: {shares}")
        else:
            self.note(f"{report.rows} rows of {report.kind.replace('_', ' and ')}")
        for lengths in report.lengths:
            if lengths.unit == "tokens" and lengths.of == "row":
                self.note(f"tokens a row: {lengths.least} to {lengths.most}, median {lengths.median:.0f}")
        for problem in report.problems:
            rows = f" ({', '.join(problem.rows[:3])})" if problem.rows else ""
            self._indented(f"{_MARKS[problem.severity]} {escape(problem.message)}[dim]{escape(rows)}[/dim]")
        if not report.problems:
            self.note("nothing found against it")

    def step(self, step: Step) -> None:
        """The curve of the loss, the rate, and the time left."""
        self._losses.append(step.loss)
        each = step.seconds / max(1, step.step)
        left = _clock(each * (step.steps - step.step))
        rate = step.tokens / max(1e-9, step.seconds)
        shown = f"{step.step}/{step.steps}  loss {_recent(self._losses):.3f}  {rate:.0f} tokens/s  {left} left"
        if self._console.is_terminal:
            self._bar("training", step.step, step.steps, self._with_curve(step, rate, left))
        elif step.step == step.steps or time.monotonic() - self._said > 15:
            self._said = time.monotonic()
            self.note(shown)
        if step.select_loss is not None:
            self.note(f"step {step.step}: loss on selection rows {step.select_loss:.4f}")
        if step.step == step.steps:
            width = max(8, min(48, self._console.width - 24))
            line = sparkline(tuple(self._losses), width)
            self.note(f"loss {self._losses[0]:.3f} {line} {_recent(self._losses):.3f}")

    def _with_curve(self, step: Step, rate: float, left: str) -> str:
        """What stands beside the bar, with as much of the loss's curve as there is room for."""
        done = f"{step.step}/{step.steps}  loss {_recent(self._losses):.3f}"
        rest = f"{rate:.0f} tokens/s  {left} left" if self._console.width >= _WIDE else f"{left} left"
        room = self._console.width - _BESIDE - self._bar_width - len(done) - len(rest)
        line = f" {sparkline(tuple(self._losses), min(32, room))}" if room >= 4 else ""
        return f"{done}{line}  {rest}"

    def search(self, search: Search) -> None:
        """The table of trials; without a terminal, a line for each that was measured or has ended."""
        if self._trials is None:
            from allmend.cli.trials import Trials

            # Two live displays would write over each other.
            if self._console.is_terminal:
                self._bars.stop()
            self._trials = Trials(self._console, self.note)
        self._trials.show(search)

    def _bar(self, what: str, done: int, total: int, shown: str) -> None:
        if not self._console.is_terminal:
            return
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, shown=shown)
        self._bars.update(self._tasks[what], completed=done, total=total, shown=shown)


def _recent(losses: list[float]) -> float:
    last = losses[-10:]
    return sum(last) / len(last)


def _bytes(done: int, total: int) -> str:
    return f"{done / 2**20:.0f}/{total / 2**20:.0f} MiB"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
