"""An engine in a process of its own, over an engine made for the test."""

from __future__ import annotations

import asyncio
import os
import queue
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from allmend.engines.apart.engine import ApartEngine, start
from allmend.engines.text import AdapterUse, Piece, TextRequest
from allmend.errors import Unavailable

_MADE = """
import threading
import time
from allmend.engines.text import Piece, Usage

class Engine:
    context = 8

    def submit(self, request, sink):
        if request.prompt == (2,):
            time.sleep(1)  # As long as a grammar takes.
            threading.Timer(0.2, sink, (Piece("after all", finish="stop", usage=Usage(1, 1)),)).start()
            return
        sink(Piece("all of it", finish="stop", usage=Usage(1, 1)))
        time.sleep(1)  # The piece is on its way before anybody says that the request was taken.

def build():
    return Engine(), {}
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApartEngine]:
    (tmp_path / "made_for_the_test.py").write_text(_MADE)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(each for each in paths if each))
    made, _ = start("made_for_the_test:build", ())
    yield made
    made.close()


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
