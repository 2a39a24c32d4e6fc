"""Programs that a model wrote run in the box: what they break is theirs, and the rest is still counted."""

from __future__ import annotations

from allmend.data import Row
from allmend.verdicts.metrics import Metric, named
from allmend.verdicts.metrics.boxed_programs import run_programs


def test_programs_pass_by_reaching_their_end_whatever_their_neighbours_do() -> None:
    programs = {
        "x = 1\nassert x == 1": True,
        "assert 1 == 2": False,
        "import sys; sys.exit(0)": False,
        "while True: pass": False,
        "import os; os.kill(os.getppid(), 9)": False,
        "open('/etc/shadow').read()": False,
        "import socket; socket.create_connection(('192.0.2.1', 80), 2)": False,
        "x = bytearray(1 << 31)": False,
        "print('x' * 1000)": True,
    }
    assert run_programs(list(programs), seconds=6) == list(programs.values())


def test_pass_at_one_through_the_metric() -> None:
    metric = named("pass@1")
    assert isinstance(metric, Metric)
    row = Row("def add(a, b):\n", "    return a + b\n", tests="assert add(2, 3) == 5")
    assert metric.scores(["    return a + b\n", "    return a - b\n"], [row, row]) == [1.0, 0.0]
