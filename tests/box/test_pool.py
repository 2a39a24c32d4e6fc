"""Kernels started ahead: each serves one run, its time counts from the run's beginning, and only what fits is used."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allmend.box import environment, levels, pool, run
from allmend.box.box import Box
from allmend.box.pool import Pool
from allmend.box.settings import Settings
from allmend.nouns.permissions import Permissions
from allmend.nouns.receipt import Receipt

PATIENCE = 120


@pytest.fixture
def kernels() -> Iterator[Pool]:
    """A pool that has one kernel at a time."""
    made = Pool(1)
    yield made
    made.close()
    assert made.waiting() == 0


def _settings(folder: Path, **permissions: object) -> Settings:
    level, why = levels.choose(None)
    granted = Permissions.model_validate(permissions)
    return Settings(granted, environment.of(), folder, level=level, why=why)


def _wait_for(kernels: Pool, count: int = 1) -> None:
    until = time.monotonic() + PATIENCE
    while kernels.waiting() != count and time.monotonic() < until:
        time.sleep(0.05)
    assert kernels.waiting() == count


def _run(folder: Path, kernels: Pool, settings: Settings, *cells: str, box_made: Any = None) -> tuple[Receipt, run.Job]:
    made = [{"cell_type": "code", "source": text, "metadata": {}, "outputs": []} for text in cells]
    notebook = {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    job = run.Job(notebook, "n.ipynb", "", settings, folder / "n.ipynb", folder / "receipt.json", pool=kernels)
    return run.run(job, None, box_made), job


def test_each_kernel_is_used_once_and_nothing_of_a_run_is_left(tmp_path: Path, kernels: Pool) -> None:
    settings = _settings(tmp_path)
    kernels.keep("n.ipynb", settings)
    _wait_for(kernels)
    leave = (
        "planted = 1\nopen('/content/left', 'w').write('x')\nopen('/tmp/left', 'w').write('x')\nimport os; os.getpid()"
    )
    first, one = _run(tmp_path, kernels, settings, leave)
    assert first.ended == "finished"
    assert one.kernel[0] == "ready"
    assert "nothing had run in it" in one.kernel[1]
    _wait_for(kernels)
    look = "import os\nassert 'planted' not in globals() and not os.path.exists('/tmp/left') and not os.listdir('.')"
    second, two = _run(tmp_path, kernels, settings, look)
    assert second.ended == "finished", second.ended_why
    assert two.kernel[0] == "ready"
    assert first.enforcement.uid != second.enforcement.uid or first.enforcement.uid != 0


def test_the_limit_on_time_counts_from_the_runs_beginning(tmp_path: Path, kernels: Pool) -> None:
    settings = _settings(tmp_path, limits={"time": 2.0})
    kernels.keep("n.ipynb", settings)
    _wait_for(kernels)
    time.sleep(3)
    assert kernels.waiting() == 1
    receipt, job = _run(tmp_path, kernels, settings, "import time\ntime.sleep(600)")
    assert job.kernel[0] == "ready"
    assert receipt.ended == "time-limit"


def test_a_kernel_with_other_permissions_is_not_used(tmp_path: Path, kernels: Pool) -> None:
    kernels.keep("n.ipynb", _settings(tmp_path, network={"hosts": ["one.example"]}))
    _wait_for(kernels)
    receipt, job = _run(tmp_path, kernels, _settings(tmp_path), "1")
    assert receipt.ended == "finished"
    assert job.kernel == ("started", "what the run may do or its packages have changed")
    _wait_for(kernels)
    # Somebody looked at the notebook when its permissions had changed: what was made before that fits no longer.
    wider = _settings(tmp_path, network={"hosts": ["two.example"]})
    kernels.keep("n.ipynb", wider)
    ready, _ = kernels.take("n.ipynb", wider)
    if ready is not None:
        ready.close()
    assert ready is None or ready.box.settings == wider


def test_what_waits_too_long_or_has_died_is_taken_away(
    tmp_path: Path, kernels: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(tmp_path)
    kernels.keep("n.ipynb", settings)
    _wait_for(kernels)
    kernels._ready["n.ipynb"][0].box.stop("kernel-died", "for this test")
    ready, why = kernels.take("n.ipynb", settings)
    assert ready is None
    assert why == "none was ready"
    _wait_for(kernels)
    monkeypatch.setattr(pool, "KEEP_SECONDS", 0.0)
    _wait_for(kernels, 0)


def test_what_could_not_be_written_at_once_is_written_while_the_next_cell_runs(
    tmp_path: Path, kernels: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, boxes = _settings(tmp_path), list[Box]()
    kernels.keep("n.ipynb", settings)
    _wait_for(kernels)
    write = run.write_atomically

    def slowly(path: Path, text: str) -> None:
        time.sleep(0.05)
        write(path, text)

    monkeypatch.setattr(run, "write_atomically", slowly)
    cells = ("print('be' + 'gun')", "import time\ntime.sleep(600)")
    running = threading.Thread(
        target=_run, daemon=True, args=(tmp_path, kernels, settings, *cells), kwargs={"box_made": boxes.append}
    )
    running.start()
    until = time.monotonic() + PATIENCE
    executed = tmp_path / "n.ipynb"
    seen = False
    while not seen and time.monotonic() < until:
        time.sleep(0.05)
        seen = executed.is_file() and "begun" in executed.read_text()
    on_its_way = running.is_alive()
    boxes[0].stop("interrupted", "for this test")
    running.join(PATIENCE)
    assert seen and on_its_way
