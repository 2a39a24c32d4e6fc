"""The table of trials: what a person sees while a search runs, and without a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from allmend.cli.trials import Trials, sparkline, trials_table
from allmend.nouns.search import Measured, Point, Search, Trial


def search(*more: Measured) -> Search:
    point = Point(learning_rate=5e-4, rank=16, batch=8, epochs=3)
    best = Trial(number=0, point=point, state="running", rung=0, rows=300, losses=(3.0, 1.0, 0.5),
                 curve=(Measured(rows=100, step=13, loss=0.4), *more))  # fmt: skip
    why = "rung 1: loss [0.9]; the best 1 of 2 had 0.4"
    out = Trial(number=1, point=point, state="stopped", rung=0, rows=100, why=why,
                losses=(3.0,), curve=(Measured(rows=100, step=13, loss=0.9),))  # fmt: skip
    return Search(run="tune-1", train_rows=900, select_rows=50, trials=(out, best), winner=0)


def test_the_best_is_on_top_and_what_was_stopped_says_why() -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(trials_table(search()))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[1].startswith("0") and "best so far, running" in lines[1] and "0.4000" in lines[1]
    assert "stopped: rung 1: loss [0.9]; the best 1 of 2 had 0.4" in lines[2]
    assert sparkline((3.0, 1.0, 0.5)) in lines[1]


def test_without_a_terminal_each_thing_is_said_once() -> None:
    said: list[str] = []
    trials = Trials(Console(file=io.StringIO()), said.append)
    for _ in range(3):
        trials.show(search())
    assert len(said) == 3 and sum("stopped" in line for line in said) == 1
    trials.show(search(Measured(rows=300, step=38, loss=0.3)))
    assert said[3:] == ["trial 0: 300 rows, loss 0.3000 on selection rows"]
    trials.close()


def test_a_terminal_keeps_the_last_table() -> None:
    console = Console(file=io.StringIO(), width=160, force_terminal=True)
    trials = Trials(console, lambda text: None)
    trials.show(search())
    trials.show(search(Measured(rows=300, step=38, loss=0.25)))
    trials.close()
    assert "0.2500" in console.file.getvalue().rsplit("trial", 1)[1]  # type: ignore[attr-defined]


def test_a_sparkline_falls_with_the_loss() -> None:
    line = sparkline(tuple(8 * 0.9**step for step in range(64)))
    assert len(line) == 16 and list(line) == sorted(line, reverse=True) and sparkline(()) == ""
