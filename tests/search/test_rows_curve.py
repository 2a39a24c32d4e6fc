"""The learning curve over rows: on which rows its points are trained."""

from __future__ import annotations

from pathlib import Path

import training
from allmend.adapters import LoraConfig
from allmend.compute import Segment
from allmend.nouns.search import Measured, Point, Search, Trial
from allmend.search.rows_curve import measure
from allmend.search.state import Keeper
from allmend.search.trainer import Shared, Siblings


def test_parts_are_drawn_from_all_over_the_file_and_lie_in_each_other(tmp_path: Path) -> None:
    point = Point(learning_rate=1e-3, rank=2, batch=4, epochs=1)
    loaded, shared = training.loaded(), Shared(LoraConfig(), seed=3, pack_tokens=256)
    siblings = Siblings(loaded, training.rows(40), training.rows(6, seed=9), shared)
    seen: list[list[int]] = []

    class Watched(Siblings):
        def run(self, *what, **more):  # type: ignore[no-untyped-def]
            seen.append([int(row.place.partition(":")[2]) for row in self.rows])
            return super().run(*what, **more)

    siblings.__class__ = Watched
    trial = Trial(number=0, point=point, step=10, rows=40, seconds=1.0, curve=(Measured(rows=40, step=10, loss=3.0),))
    search = Search(run="r", train_rows=40, select_rows=6, trials=(trial,), winner=0)
    keeper = Keeper(tmp_path, search, loaded.about, shared.of, ("", "plain"))
    whole = Segment(trial=0, point=point, folder=keeper.folder_of(0), until=10, steps=10, climb=1, decay_from=1,
                    evaluate_at=(10,))  # fmt: skip
    siblings.run(whole, lambda event: None, lambda: False)
    notes: list[str] = []
    measure(keeper, siblings, lambda: 1000.0, lambda: False, notes.append)
    siblings.close()
    every, quarter, half = seen
    assert every == list(range(40)) and len(quarter) == 10 and len(half) == 20
    assert set(quarter) < set(half) and max(quarter) >= 20 and min(quarter) < 20
    assert [one.rows for one in keeper.search.learning_curve] == [10, 20, 40] and notes == [keeper.search.more_data]


def test_a_stop_before_the_first_point_is_measured_leaves_the_curve_out(tmp_path: Path) -> None:
    point = Point(learning_rate=1e-3, rank=2, batch=4, epochs=1)
    loaded, shared = training.loaded(), Shared(LoraConfig(), seed=3, pack_tokens=256)
    siblings = Siblings(loaded, training.rows(40), training.rows(6, seed=9), shared)
    trial = Trial(number=0, point=point, step=10, rows=40, seconds=1.0, curve=(Measured(rows=40, step=10, loss=3.0),))
    search = Search(run="r", train_rows=40, select_rows=6, trials=(trial,), winner=0)
    keeper = Keeper(tmp_path, search, loaded.about, shared.of, ("", "plain"))
    asked: list[bool] = []

    def stop() -> bool:
        """Not when the part begins, but as soon as it trains."""
        asked.append(len(asked) > 0)
        return asked[-1]

    notes: list[str] = []
    measure(keeper, siblings, lambda: 1000.0, stop, notes.append)
    siblings.close()
    assert notes == ["The curve's point at 10 rows is left out: its training ended before it was measured."]
    assert not keeper.search.learning_curve and len(siblings.rows) == 40
