"""A notebook over rows: checked before it starts, taken up where it stopped, a line for every row."""

from __future__ import annotations

import csv
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import allmend
import notebooks
from allmend.errors import InputError
from allmend.verbs import batch as batches
from allmend.verbs.batch import BatchResult

CELLS = (notebooks.FORM, "assert frequency != 9, 'nine'\nname + '!'")


def _batch(folder: Path, table: str) -> BatchResult:
    (folder / "rows.csv").write_text(table)
    made = allmend.run(folder / "wave.ipynb", yes=True, batch=folder / "rows.csv")
    assert isinstance(made, BatchResult)
    return made


def test_rows_run_and_are_taken_up_where_they_stopped(tmp_path: Path) -> None:
    notebooks.write(tmp_path, "wave.ipynb", *CELLS)
    first = _batch(tmp_path, "name,frequency\na,3\nb,9\n")
    assert (first.finished, first.failed, first.kept) == (1, 1, 0)
    second = _batch(tmp_path, "name,frequency\na,3\nb,8\nc,\n")
    assert (second.finished, second.failed, second.kept) == (3, 0, 1)
    with second.table.open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["name"], line["frequency"], line["state"], line["result"]) for line in lines] == [
        ("a", "3", "finished", "'a!'"),
        ("b", "8", "finished", "'b!'"),
        ("c", "", "finished", "'c!'"),
    ]
    assert all((second.folder / line["folder"] / "receipt.json").is_file() for line in lines)


@pytest.mark.parametrize(
    ("table", "where", "why"),
    [("name,frequncy\na,1\n", ":1", "frequency"), ("name,frequency\na,1\nb,99\n", ":3", "between 1 and 10"), ("frequency\nmany\n", ":2", "a number"),
     ("name\n", "rows.csv", "no rows"), ("name,name\na,b\n", ":1", "twice"), ("name\na,b\n", ":2", "more cells")],
)  # fmt: skip
def test_a_table_is_checked_whole_before_anything_runs(tmp_path: Path, table: str, where: str, why: str) -> None:
    notebooks.write(tmp_path, "wave.ipynb", *CELLS)
    with pytest.raises(InputError, match=why) as caught:
        _batch(tmp_path, table)
    assert where in str(caught.value.where)
    assert not list(tmp_path.glob("wave-batch/0*"))


def test_ctrl_c_ends_the_rows_that_run_and_begins_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebooks.write(tmp_path, "wave.ipynb", *CELLS)
    begun = threading.Event()

    def until_stopped(self: Any, row: Any, folder: Path) -> Any:
        begun.set()
        until = time.monotonic() + 60
        while not self.stopped:
            assert time.monotonic() < until
            time.sleep(0.01)
        return SimpleNamespace(ended="interrupted", ended_why="the batch was stopped")

    def interrupted(self: Any, timeout: float | None = None) -> Any:
        assert begun.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(batches._Batch, "_run", until_stopped)
    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _batch(tmp_path, "name,frequency\n" + "a,3\n" * 6)
    with (tmp_path / "wave-batch" / "results.csv").open() as file:
        states = [line["state"] for line in csv.DictReader(file)]
    assert len(states) == 6 and set(states) == {"stopped", "not-run"} and states.count("stopped") <= 2
