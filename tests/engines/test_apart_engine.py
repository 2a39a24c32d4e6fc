"""An engine in a process of its own, over an engine made for the test."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import queue
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from allmend.engines.apart import pulse, restarts
from allmend.engines.apart.engine import ApartEngine, start
from allmend.engines.apart.flights import Flight, Flights
from allmend.engines.apart.pulse import Beat, Patience
from allmend.engines.apart.restarts import PAUSES, TURNED_AWAY, Restarts
from allmend.engines.text import AdapterUse, Piece, Restarting, TextRequest
from allmend.errors import InputError, Unavailable

_MADE = '''
import os
import threading
import time
from pathlib import Path
from allmend.engines.text import Piece, Usage

HELD = Path(__file__).with_name("held")
"""As long as it exists, (6,) is not answered, and (3,) ends the process only once it has three requests."""

class Unreadable:
    def __reduce__(self):
        return int, ("no number",)

class Engine:
    context = 8
    steps = 0
    stuck = False
    taken = 0

    def load(self):
        return int(self.stuck), 0

    def submit(self, request, sink):
        self.taken += 1
        if request.prompt == (3,):
            threading.Thread(target=self.crash).start()
            return None
        if request.prompt == (4,):
            self.stuck = True
            return None
        if request.prompt == (5,):
            return None
        if request.prompt == (10,):
            sink(Piece(Unreadable()))
            return None
        if request.prompt == (9,):
            self.has_ended = True  # As where its thread ends by a fault.
            sink(Piece(finish="cancelled", usage=Usage(1, 0)))
            return None
        if request.prompt == (6,):
            threading.Thread(target=self.answer, args=(sink,)).start()
            return None
        if request.prompt in ((7,), (8,)):
            threading.Timer(0.2, sink, (Piece("after all", finish="stop", usage=Usage(1, 1)),)).start()
            return None
        if request.prompt == (2,):
            time.sleep(1)  # As long as a grammar takes.
            threading.Timer(0.2, sink, (Piece("after all", finish="stop", usage=Usage(1, 1)),)).start()
            return
        sink(Piece("all of it", finish="stop", usage=Usage(1, 1)))
        time.sleep(1)  # The piece is on its way before anybody says that the request was taken.

    def crash(self):
        while HELD.exists() and self.taken < 3:
            time.sleep(0.01)
        os._exit(7)

    def answer(self, sink):
        while HELD.exists():
            time.sleep(0.01)
        sink(Piece("after all", finish="stop", usage=Usage(1, 1)))

def build():
    return Engine(), {}
'''

_FAILING = """
import threading
import time
from allmend.errors import InputError

def build():
    threading.Thread(target=time.sleep, args=(3600,)).start()
    raise InputError("not such a file")
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[ApartEngine]:
    """The engine; its parameter is for how many seconds it may give no sign of life."""
    (tmp_path / "made_for_the_test.py").write_text(_MADE)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(each for each in paths if each))
    made, _ = start("made_for_the_test:build", (), limit=getattr(request, "param", 300.0))
    yield made
    made.close()


def ended(engine: ApartEngine, *prompt: int) -> Future[Piece]:
    """How a request ends."""
    last: Future[Piece] = Future()
    engine.submit(TextRequest(prompt), lambda piece: last.set_result(piece) if piece.finish else None)
    return last


def wait_until(true: Callable[[], object]) -> None:
    until = time.monotonic() + 120
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_answer_that_ends_before_it_was_taken_counts_as_taken(engine: ApartEngine) -> None:
    pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
    ticket = engine.submit(TextRequest((1,)), pieces.put)
    ticket.accepted.result(timeout=120)
    assert pieces.get(timeout=120).text == "all of it"


def test_who_hangs_up_before_a_request_was_taken_ends_nobody_elses(engine: ApartEngine) -> None:
    pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()

    async def give_up() -> None:
        taken = asyncio.wrap_future(engine.submit(TextRequest((2,)), pieces.put).accepted)
        taken.cancel()
        await asyncio.wait({taken})

    asyncio.run(give_up())
    assert pieces.get(timeout=120).text == "after all"
    engine.submit(TextRequest((1,)), pieces.put)
    assert pieces.get(timeout=120).text == "all of it"


def test_what_was_refused_once_is_told_to_many_without_growing(engine: ApartEngine) -> None:
    engine._adapters._refused["gone"] = Unavailable("its file cannot be read")
    depths = set()
    for _ in range(20):
        with pytest.raises(Unavailable) as told:
            engine.submit(TextRequest((1,), adapters=(AdapterUse("gone"),)), print)
        depths.add(len(traceback.extract_tb(told.value.__traceback__)))
    assert len(depths) == 1


@pytest.mark.parametrize("engine", [10.0], indirect=True)
def test_an_engine_that_stays_in_a_step_is_started_again(engine: ApartEngine) -> None:
    """Its process still tells how it is: that nothing goes on."""
    before = engine.pid
    assert ended(engine, 4).result(timeout=120).finish == "lost"
    assert ended(engine, 8).result(timeout=120).finish == "stop"
    assert engine.restarts == 1 and engine.pid != before


def test_what_a_failing_engine_cancels_is_lost_and_who_comes_meanwhile_waits_for_the_next(engine: ApartEngine) -> None:
    lost, before = ended(engine, 9), engine.pid
    wait_until(lambda: engine._failing or engine.pid != before)
    assert ended(engine, 8).result(timeout=120).finish == "stop"
    assert lost.result(timeout=120).finish == "lost" and engine.restarts == 1
    assert engine._flights._suspects.count(TextRequest((9,))) == 1


@pytest.mark.parametrize("tokens", [0, 500])
def test_a_long_step_is_no_hanging(tokens: int) -> None:
    patience = Patience(300)
    for step in range(20):  # hours of steps that take minutes each
        for _ in range(290 + tokens):
            patience.heard(Beat(step, tokens, busy=True))
            assert patience.passed(1.0) is None
    still = []
    for _ in range(300 + tokens):
        patience.heard(Beat(20, tokens, busy=True))
        still.append(patience.passed(1.0))
    assert not any(still[:-1]) and still[-1] == f"it has been in one step for {300 + tokens} s"


def test_who_waits_for_work_is_left_alone_and_who_says_nothing_is_not() -> None:
    patience = Patience(300)
    for _ in range(5000):
        patience.heard(Beat(7))
        assert patience.passed(1.0) is None
    patience.heard(Beat(7))
    silent = [patience.passed(1.0) for _ in range(300)]
    early = Patience(5)
    assert not any(early.passed(1.0) for _ in range(59)) and early.passed(1.0)  # It has not begun to speak.
    assert not any(silent[:-1]) and silent[-1] == "it has not been heard of for 300 s"


def test_who_works_may_be_silent_while_it_is_built_and_where_it_counts_no_steps() -> None:
    done = 0
    patience = Patience(5, lambda: done)
    for _ in range(1000):  # It reads modules, and holds the interpreter.
        done += 8
        assert patience.passed(1.0) is None
    patience.built()
    patience.heard(Beat(1, busy=True, counted=False))
    for _ in range(1000):  # It reads a model.
        done += 8
        assert patience.passed(1.0) is None
    stopped = [patience.passed(1.0) for _ in range(10)]
    assert any(stopped) and not any(stopped[:4])
    patience.heard(Beat(1))
    for _ in range(4):
        done += 100
        assert patience.passed(1.0) is None
    assert patience.passed(1.0)  # One that counts its steps and holds the interpreter for so long hangs.


def test_work_of_a_process_is_seen_from_outside() -> None:
    before = pulse.work(os.getpid())
    wait_until(lambda: pulse.work(os.getpid()) > before)
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert pulse.work(ended.pid) == 0


def test_time_in_which_the_server_did_not_look_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the whole machine slept, or the server was stopped: the process could say nothing either."""
    heard, told = os.pipe()
    hung: list[str] = []
    looks = itertools.count()
    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: 1000.0 * next(looks), sleep=time.sleep))
    monkeypatch.setattr(pulse, "_FIRST", 0.8)
    pulse.Watch(heard, 0.8, hung.append)
    wait_until(lambda: hung)
    # Looks that are hours apart: each counts as two of those between which the process could have spoken.
    assert next(looks) >= 5
    os.close(told)


def test_beats_that_nobody_reads_hold_nothing_up() -> None:
    heard, told = os.pipe()
    looked: list[int] = []

    def look() -> Beat:
        looked.append(1)
        return Beat(len(looked), busy=True)

    fcntl.fcntl(heard, fcntl.F_SETPIPE_SZ, 4096)
    pulse.beat(told, 0.008, look)
    wait_until(lambda: len(looked) > 4096 // 13 + 50)
    assert len(os.read(heard, 65536)) % 13 == 0
    # Its reader is this process: the pipe stays open, or the writer would end it.


def test_a_process_is_started_later_each_time_that_it_was_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("allmend.engines.apart.restarts.time", SimpleNamespace(monotonic=lambda: now))
    restarts = Restarts()
    restarts.came_up()
    assert [restarts.ended(ready=True) for _ in range(8)] == [*PAUSES, PAUSES[-1], PAUSES[-1]]
    assert restarts.away == PAUSES[-1] > TURNED_AWAY
    now += PAUSES[-1]
    restarts.came_up()
    assert restarts.away == 0
    restarts.was_of_use()
    assert [restarts.ended(ready=True), restarts.ended(ready=False)] == list(PAUSES[:2])
    restarts.came_up()
    now += 3600  # Nobody asked anything, and it was there.
    assert restarts.ended(ready=True) == 0


def test_a_request_that_ends_the_process_each_time_is_refused_and_who_was_beside_it_is_not(
    engine: ApartEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "PAUSES", (0.0,))
    held = tmp_path / "held"
    held.touch()
    answers = []
    for time_of_three in (1, 2, 3):
        tries = [ended(engine, 6), ended(engine, 3), ended(engine, 6)]
        if time_of_three == 3:
            held.unlink()
        answers.append([each.result(timeout=120).finish for each in tries])
        wait_until(lambda: engine.is_up)
    # The third time they come one after the other, and those that are not why it ends come to their end.
    assert answers == [["lost", "lost", "lost"], ["lost", "lost", "lost"], ["stop", "lost", "stop"]]
    with pytest.raises(Restarting, match="each of the last 3 times") as refused:
        ended(engine, 3)
    assert refused.value.retry_after is None
    assert ended(engine, 6).result(timeout=120).finish == "stop"
    assert engine.restarts == 3


def test_what_waits_behind_a_suspect_can_be_cancelled_and_waits_for_nobody_else(engine: ApartEngine) -> None:
    for _ in range(2):
        engine._flights._suspects.blame((TextRequest((each,)), 0) for each in (5, 6, 7))
    first, second = queue.SimpleQueue(), queue.SimpleQueue()  # type: ignore[var-annotated]
    running = engine.submit(TextRequest((5,)), first.put)
    running.accepted.result(timeout=120)
    held = engine.submit(TextRequest((6,)), second.put)
    third = ended(engine, 7)
    assert engine.load() == (1, 2)
    assert ended(engine, 8).result(timeout=120).finish == "stop"
    held.cancel()
    assert second.get(timeout=120).finish == "cancelled" and held.accepted.done()
    os.kill(engine.pid, signal.SIGKILL)
    assert first.get(timeout=120).finish == "lost"
    assert third.result(timeout=120).finish == "stop"  # It was not in flight, so it was not lost.


def test_suspicion_lasts_as_long_as_the_request_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hang is found late: longer after the one before than suspicion is kept."""
    now = 1000.0
    monkeypatch.setattr("allmend.engines.apart.suspects.time", SimpleNamespace(monotonic=lambda: now))
    flights = Flights(lambda message: None)
    for number in range(3):
        flights.came_up()
        ticket: Any = None
        flights.put(Flight(number, TextRequest((3,)), None, print, ticket))
        now += 700
        assert len(flights.lose()) == 1
    with pytest.raises(Restarting, match="last 3 times"):
        flights.put(Flight(4, TextRequest((3,)), None, print, ticket))


def test_what_cannot_be_read_ends_the_process_and_keeps_nobody_waiting(engine: ApartEngine) -> None:
    def raising(piece: Piece) -> None:
        raise RuntimeError("nobody listens")

    engine.submit(TextRequest((5,)), raising)
    lost = ended(engine, 10)
    assert lost.result(timeout=120).finish == "lost"
    assert ended(engine, 8).result(timeout=120).finish == "stop" and engine.restarts == 1


def test_where_no_process_comes_up_who_waits_is_told_and_who_comes_later_is_sent_away(
    engine: ApartEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(restarts, "PAUSES", (0.0, 0.0, 60.0))
    monkeypatch.setattr(engine._over, "wait", lambda seconds: go_on.wait(seconds) and engine._closing)
    (tmp_path / "made_for_the_test.py").write_text("raise SystemExit(9)")
    os.kill(engine.pid, signal.SIGKILL)
    wait_until(lambda: not engine.is_up)
    try:
        assert ended(engine, 8).result(timeout=120).finish == "absent"
    except Restarting:
        pass  # It has come to that already.
    wait_until(lambda: engine.away)
    with pytest.raises(Restarting, match="again and again") as told:
        ended(engine, 8)
    assert told.value.retry_after is not None and 0 < told.value.retry_after <= 60
    with pytest.raises(Restarting):
        engine.add_adapter("late", None)
    (tmp_path / "made_for_the_test.py").write_text(_MADE)
    go_on.set()
    wait_until(lambda: engine.is_up)
    assert ended(engine, 8).result(timeout=120).finish == "stop"


def test_what_building_raised_is_told_though_the_process_does_not_go_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_to_fail.py").write_text(_FAILING)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    with pytest.raises(InputError, match="not such a file"):
        start("made_to_fail:build", ())


def test_closing_ends_a_process_that_is_still_loading(engine: ApartEngine, tmp_path: Path) -> None:
    (tmp_path / "made_for_the_test.py").write_text("import time\ntime.sleep(3600)")
    first = engine.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: engine.pid != first)
    loading = engine._process
    engine.close()
    assert loading.wait(timeout=60) == -signal.SIGKILL and not engine._thread.is_alive()
