"""Workers in this process and in others: the same trials, whoever trains them and whoever is killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import makers
import pytest

from allmend.adapters import read
from allmend.compute import Event, Failed, Finished, HereWorker, Lost, ProcessWorker, Segment, Stepped, Worker
from allmend.errors import Unavailable
from allmend.nouns.search import Point, Search
from allmend.search.rungs import Costs
from allmend.search.sampling import FILE, Sampler
from allmend.search.scheduler import Limits, Scheduler
from allmend.search.space import Space
from allmend.search.state import Keeper
from allmend.search.trainer import LAST

FOLDERS = os.pathsep.join(str(Path(__file__).parents[level]) for level in (0, 1))


@pytest.fixture(autouse=True)
def makers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", FOLDERS + os.pathsep + os.environ.get("PYTHONPATH", ""))


def process(name: str, folder: Path, maker: str = "makers:siblings", **settings: Any) -> ProcessWorker:
    return ProcessWorker(maker, settings, name=name, threads=1, log=folder / f"{name}.log")


def until(worker: Worker, events: list[Event], wanted: type, seconds: float = 240.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = next((event for event in events if isinstance(event, wanted)), None)
        if found is not None:
            return found
        worker.pump(events.append, 0.2)
    raise AssertionError(events)


def segment(folder: Path, **changes: Any) -> Segment:
    point = Point(learning_rate=5e-3, rank=4, batch=8, epochs=2)
    values: dict[str, Any] = {
        "trial": 1, "point": point, "folder": folder / "trial", "until": 6, "steps": 12, "climb": 2, "decay_from": 6,
        "evaluate_at": (6,),
    }  # fmt: skip
    return Segment(**(values | changes))


def keeper(folder: Path) -> Keeper:
    import training

    folder.mkdir(parents=True)
    search = Search(run="test", train_rows=makers.ROWS, select_rows=makers.SELECT)
    config = makers.siblings().shared.of
    return Keeper(folder, search, training.loaded().about, config, ("{{ messages }}", "test"))


def search(folder: Path, workers: list[Worker], changed: Any = lambda search, event: None) -> Search:
    place = keeper(folder)
    sampler = Sampler(folder / FILE, Space(ranks=(4, 2), batches=(8, 4), epochs=(2.0,)), 0)
    try:
        return Scheduler(
            place, sampler, workers, makers.ROWS, Costs(1e-4, 0.0), Limits(3, 3), left=lambda: 600.0, changed=changed
        ).go()
    finally:
        sampler.close()
        for worker in workers:
            worker.close()


def test_a_killed_worker_s_trial_goes_on_on_another_to_the_same_bits(tmp_path: Path) -> None:
    alone = search(tmp_path / "alone", [HereWorker(makers.siblings())])
    first, second = process("first", tmp_path, wait=0.05), process("second", tmp_path, wait=0.01)
    killed: list[int] = []
    lost: list[Lost] = []

    def changed(record: Search, event: Event | None) -> None:
        if isinstance(event, Lost):
            lost.append(event)
        if isinstance(event, Stepped) and event.step >= 2 and not killed:
            trial = record.trial(event.trial)
            if trial.worker == "first":
                killed.append(event.trial)
                os.kill(first.pid, signal.SIGKILL)

    both = search(tmp_path / "both", [first, second], changed)
    assert killed and [event.trial for event in lost] == killed and "signal 9" in lost[0].message
    assert all(trial.worker != "first" for trial in both.trials)
    assert [trial.state for trial in both.trials] == [trial.state for trial in alone.trials]
    assert both.winner == alone.winner
    assert read(tmp_path / "both" / "adapter").digest == read(tmp_path / "alone" / "adapter").digest
    assert [trial.curve for trial in both.trials] == [trial.curve for trial in alone.trials]


def test_a_stop_is_answered_with_what_was_reached(tmp_path: Path) -> None:
    worker = process("one", tmp_path, wait=0.05)
    events: list[Event] = []
    try:
        worker.submit(segment(tmp_path, until=5000, steps=10_000, decay_from=5000))
        until(worker, events, Stepped)
        worker.stop()
        done: Finished = until(worker, events, Finished)
        assert 0 < done.step < 5000 and done.state == tmp_path / "trial" / LAST and done.state.is_file()
        assert done.digest and not worker.busy
        events.clear()
        # An error is told, and the worker lives on.
        done.state.write_bytes(b"damaged")
        worker.submit(segment(tmp_path))
        failed: Failed = until(worker, events, Failed)
        assert "damaged" in failed.message and not failed.diverged and worker.alive
    finally:
        worker.close()
    assert not worker.alive


def test_when_every_worker_dies_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="every worker died") as caught:
        search(tmp_path / "search", [process("one", tmp_path, "makers:broken")])
    assert "goes on" in (caught.value.hint or "")
