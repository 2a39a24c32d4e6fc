"""An engine in a process of its own, over an engine made for the test."""

from __future__ import annotations

import os
import queue
from pathlib import Path

import pytest

from allmend.engines.apart.engine import start
from allmend.engines.text import Piece, TextRequest

_MADE = """
import time
from allmend.engines.text import Piece, Usage

class Engine:
    context = 8

    def submit(self, request, sink):
        sink(Piece("all of it", finish="stop", usage=Usage(1, 1)))
        time.sleep(1)  # The piece is on its way before anybody says that the request was taken.

def build():
    return Engine(), {}
"""


def test_an_answer_that_ends_before_it_was_taken_counts_as_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_for_the_test.py").write_text(_MADE)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(each for each in paths if each))
    engine, _ = start("made_for_the_test:build", ())
    pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
    try:
        ticket = engine.submit(TextRequest((1,)), pieces.put)
        ticket.accepted.result(timeout=120)
        assert pieces.get(timeout=120).text == "all of it"
    finally:
        engine.close()
