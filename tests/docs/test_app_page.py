"""The commands of docs/app.md, as a person types them, in a folder with a notebook and a table."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "app.md").read_text()
SERVE, BATCH = [line for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cells = [{"cell_type": "code", "source": "n = 1 #@param {type:'integer'}\nn * 2", "metadata": {}, "outputs": []}]
    (tmp_path / "notebook.ipynb").write_text(json.dumps({"nbformat": 4, "metadata": {}, "cells": cells}))
    (tmp_path / "rows.csv").write_text("n\n20\n21\n")
    return tmp_path


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    made = {**os.environ, "ALLMEND_HOME": str(folder / "home")}
    made["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{made['PATH']}"
    return made


def test_a_notebook_is_served_until_it_is_stopped(folder: Path, environment: dict[str, str]) -> None:
    line = f"{SERVE} --yes --port 0"
    with subprocess.Popen(line.split(), cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        shown = [server.stdout.readline() for _ in range(3)]
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 130
    assert re.match(r"Open http://127\.0\.0\.1:\d+/", shown[0]) and "1 parameters" in shown[1]


def test_rows_become_results(folder: Path, environment: dict[str, str]) -> None:
    subprocess.run(BATCH.split(), cwd=folder, env=environment, check=True, capture_output=True, timeout=300)
    with (folder / "notebook-batch" / "results.csv").open() as file:
        assert [line["result"] for line in csv.DictReader(file)] == ["40", "42"]
