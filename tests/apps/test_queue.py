"""Runs wait fairly, and each knows its place."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from allmend.apps.queue import Queue
from allmend.apps.run_routes import _stream
from allmend.apps.runs import AppRun
from allmend.apps.servers import Registry
from allmend.apps.store import Store


def _run(folder: Path, name: str, visitor: str) -> AppRun:
    (folder / name).mkdir()
    return AppRun(folder / name, visitor=visitor, values={})


def _drain(order: list[str], folder: Path, visitors: list[str]) -> list[str]:
    """Submit a run of each visitor while a first one blocks the only thread; returns who was served, in order."""
    gate, begun, done = threading.Event(), threading.Event(), threading.Event()
    served: list[str] = []

    def carry_out(run: AppRun) -> None:
        begun.set()
        gate.wait(30)
        served.append(run.visitor)
        run.end("finished", "")
        if len(served) == len(visitors) + 1:
            done.set()

    queue = Queue(carry_out, at_once=1)
    queue.submit(_run(folder, "first", "gate"))
    assert begun.wait(30)
    runs = [_run(folder, str(number), visitor) for number, visitor in enumerate(visitors)]
    for run in runs:
        queue.submit(run)
    places = [queue.place(run) for run in runs]
    assert sorted(place for place in places if place is not None) == list(range(len(visitors)))
    order.extend(run.visitor for run in sorted(runs, key=lambda run: queue.place(run) or 0))
    gate.set()
    assert done.wait(30)
    queue.close()
    return served[1:]


@settings(max_examples=25, deadline=None)
@given(visitors=st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
def test_each_visitor_has_a_turn_before_any_has_two_and_places_say_so(
    tmp_path_factory: object, visitors: list[str]
) -> None:
    told: list[str] = []
    served = _drain(told, tmp_path_factory.mktemp("q"), visitors)  # type: ignore[attr-defined]
    assert served == told, "the places that were told are the order that was kept"
    for length in range(1, len(served) + 1):
        counts = {v: served[:length].count(v) for v in set(visitors)}
        waiting = {v for v in counts if visitors.count(v) > counts[v]}
        assert max(counts.values()) - min((counts[v] for v in waiting), default=99) <= 1


def test_a_run_stopped_while_it_waits_never_begins(tmp_path: Path) -> None:
    gate, ran = threading.Event(), []

    def carry_out(run: AppRun) -> None:
        gate.wait(30)
        ran.append(run.id)
        run.end("finished", "")

    queue = Queue(carry_out, at_once=1)
    first, second, third = (_run(tmp_path, name, name) for name in ("one", "two", "three"))
    for run in (first, second, third):
        queue.submit(run)
    second.stop()
    gate.set()
    finished = threading.Event()
    third.watch(lambda: finished.set() if third.state == "finished" else None)
    assert third.state == "finished" or finished.wait(30)
    queue.close()
    assert ran == ["one", "three"] and second.state == "stopped"


def test_a_run_left_by_a_server_that_ended_is_interrupted_and_keeps_its_events(tmp_path: Path) -> None:
    run = AppRun.new(tmp_path, visitor="v", values={"a": 1}, uploads=())
    run.begin()
    run.output(0, "half")
    run.save()
    again = AppRun.load(run.folder)
    assert again is not None and again.state == "interrupted" and again.values == {"a": 1}
    assert {"event": "output", "cell": 0, "text": "half"} in again.events and again.events[-1]["event"] == "ended"


def test_a_question_that_comes_when_the_run_ends_is_a_no_at_once(tmp_path: Path) -> None:
    ended, stopped = (_run(tmp_path, name, "v") for name in ("ended", "stopped"))
    for run in (ended, stopped):
        assert run.begin()
    ended.ending()
    stopped.stop()
    answers: list[object] = []

    def ask() -> None:
        for run in (ended, stopped):
            answers.extend([run.ask("host", "x.example:443"), run.type_line("Name?", False)])

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(60)
    assert answers == [False, None] * 2


def test_a_run_goes_on_when_those_who_watch_it_are_gone_with_their_server(tmp_path: Path) -> None:
    run = _run(tmp_path, "watched", "v")
    assert run.begin()
    loop = asyncio.new_event_loop()
    watching = _stream(run, 0)
    first = loop.run_until_complete(anext(watching))
    loop.close()  # Between two events, as where a server ends.
    run.tell("output", cell=0, text="on")
    run.end("finished", "")
    assert b"event: started" in first and run.over


def test_an_event_that_comes_while_another_is_sent_is_not_lost(tmp_path: Path) -> None:
    run = _run(tmp_path, "busy", "v")
    assert run.begin()

    async def watched() -> list[str]:
        sent = []
        async for event in _stream(run, 0):
            sent.append(event.split(b"\n")[0].decode())
            if len(sent) < 5:
                run.tell("output", cell=0, text=str(len(sent)))
            elif not run.over:
                run.end("finished", "")
        return sent

    assert asyncio.run(watched()) == [f"id: {number}" for number in range(len(run.events))]


def test_what_is_over_shows_no_servers_any_more(tmp_path: Path) -> None:
    states: list[str] = []

    class Names(Registry):
        def forget(self, run: str) -> None:
            states.append(made.state)
            super().forget(run)

    store = Store(tmp_path, registry=Names(lambda: 1))
    made, _ = store.start("slug", visitor="v", values={}, uploads=[], key=None)
    assert made.begin()
    run = lambda task: SimpleNamespace(ended="finished", ended_why="")
    plan, granted = SimpleNamespace(effects=[]), SimpleNamespace(network=SimpleNamespace(hosts=()))
    app: Any = SimpleNamespace(plan=plan, permissions=granted, run=run)
    store.carry_out(made, {"slug": app}, may_ask=False, release=lambda: None)
    assert states == ["running"] and made.state == "finished"
