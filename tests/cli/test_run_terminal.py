"""What a running notebook can write to a person's terminal, and what it cannot."""

from __future__ import annotations

import io
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmend.box.outputs import Shown
from allmend.cli.run_terminal import BAR, Terminal
from allmend.nouns.receipt import CellRecord


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(*texts: str, stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    terminal = Terminal(stream)
    for text in texts:
        terminal.output(0, Shown("stdout", text))
    terminal.cell_ended(CellRecord(cell=0, status="ok", seconds=1.0))
    return stream.getvalue()


def test_pieces_of_a_line_stay_one_line() -> None:
    assert shown("a", "b\nc", "d\n") == f"{BAR}ab\n{BAR}cd\n[0] ok in 1.00 s\n"


def test_a_log_holds_a_progress_bars_last_state() -> None:
    assert shown(*[f"\r{n}%" for n in range(101)]) == f"{BAR}100%\n[0] ok in 1.00 s\n"
    assert shown(*[f"{n}%\r" for n in range(101)], "\n") == f"{BAR}100%\n[0] ok in 1.00 s\n"


def test_a_terminal_draws_a_progress_bar_over_itself() -> None:
    text = shown("\r1%", "\r2%", stream=Screen())
    assert text == f"{BAR}1%\r\x1b[K{BAR}2%\n[0] ok in 1.00 s\n"


CLEARS = ["\x1b[2J", "\x1b]0;title\x07", "\x1b[1A\x1b[K[0] ok", "\x1bc", "\x9b2J", "\x08" * 9, "\x0b\x0c"]
BREAKS = ["\u202e", "\u2028[1] ok", "\x85[1] ok"]


@pytest.mark.parametrize("hostile", [*CLEARS, *BREAKS])
def test_no_control_reaches_the_terminal(hostile: str) -> None:
    text = shown(f"before{hostile}after\n", stream=Screen())
    assert "before" in text and "after" in text
    assert all(c == "\n" or c.isprintable() for c in text)


@given(st.lists(st.text(alphabet="ab[0] ok\r\n\t\x1b\u4e2d\u0301│", max_size=200), max_size=8), st.integers(20, 60))
def test_every_line_of_the_notebooks_begins_with_a_bar(texts: list[str], columns: int) -> None:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(columns)
    try:
        for stream in (Screen(), io.StringIO()):
            *lines, last, end = shown(*texts, stream=stream).split("\n")
            assert end == "" and last == "[0] ok in 1.00 s"
            for line in lines:
                for drawn in line.split("\r\x1b[K"):
                    assert drawn.startswith(BAR) or not drawn
                    assert len(re.sub("\u0301", "", drawn)) <= columns or not stream.isatty()
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
