"""What the terminal draws: any text as it is, and a curve that fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmend.cli.live import Terminal, curve
from allmend.cli.show import notes
from allmend.nouns.choice import Choice
from allmend.nouns.model import Model
from allmend.tuning.loop import Step

HOSTILE = "[/red] [link=x]y[/link] ./[bold]/a.csv"


@given(st.lists(st.floats(-1e6, 1e6), max_size=300), st.integers(1, 60))
def test_a_curve_is_never_wider_than_asked(values: list[float], width: int) -> None:
    drawn = curve(values, width)
    assert len(drawn) <= width
    assert bool(drawn) == bool(values)


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_what_stands_beside_the_bar_fits_and_draws_the_curve_where_there_is_room(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    notes.cache_clear()
    try:
        watch = Terminal()
        watch._losses = [3.0 / (1 + place) for place in range(500)]
        shown = watch._with_curve(Step(500, 1234, 0.006, 1e-3, 10**6, 60.0), 23456.0, "12:34")
    finally:
        notes.cache_clear()
    assert columns == 40 or len(shown) + watch._bar_width + len("  training  ") <= columns
    assert ("█" in shown) == (columns >= 60) and "500/1234" in shown and "12:34 left" in shown


def test_a_falling_loss_falls() -> None:
    assert curve([4.0, 3.0, 2.0, 1.0]) == "█▆▃▁"
    assert curve([1.0, 1.0]) == "▁▁"


def test_text_from_outside_is_shown_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    notes.cache_clear()
    with Terminal() as watch:
        watch.stage(f"Reading {HOSTILE}")
        watch.note(HOSTILE)
        watch.choice(Choice(name="template", value=HOSTILE, reason=HOSTILE))
        watch.amount(HOSTILE, 1, 2)
        watch.model(
            Model(name=HOSTILE, source="folder", format="gguf", path=tmp_path, digest="0" * 64, licence=HOSTILE)
        )
        for number in (1, 2):
            watch.step(Step(number, 2, 1.0 / number, 1e-3, 10 * number, 1.0 * number, select_loss=0.5))
    notes.cache_clear()
    said = capsys.readouterr().err
    assert said.count(HOSTILE) == 6
    assert "2/2" in said and "loss on selection rows" in said
