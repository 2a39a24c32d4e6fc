"""Seconds to lock a notebook of five packages, against juv and uv on the same requirements; what `--locked` adds.

    python bench/lock/speed.py [--rounds N]

Warm: every tool has done it once before, so uv's cache and allmend's hold what is needed. Each round runs every side
once, in turn; medians. `lock, first` makes the lock from nothing each time (the lock file is taken away), `lock, again`
finds it there. The runs are of one notebook that installs what is locked and imports it; the plain run has the same
packages ready beneath it from earlier runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

REQUIREMENTS = ["requests==2.31.0", "rich", "tabulate", "humanize", "python-dateutil>=2.8"]
CELLS = [
    "!pip install -q " + " ".join(f"'{one}'" for one in REQUIREMENTS),
    "import requests, rich, tabulate, humanize, dateutil",
]


def cell(source: str) -> dict:
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None}


def notebook(path: Path, cells: list[str]) -> Path:
    content = {"cells": [cell(one) for one in cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def sides(folder: Path) -> dict[str, Callable[[], list[str]]]:
    """Name of a side to what prepares it and gives its command."""
    here = [sys.executable, "-m", "allmend"]
    fresh, again = notebook(folder / "fresh.ipynb", CELLS), notebook(folder / "again.ipynb", CELLS)
    plain = notebook(folder / "plain.ipynb", CELLS)
    (folder / "requirements.in").write_text(
        "\n".join([*REQUIREMENTS, "ipykernel", "pip", "setuptools", "wheel"]) + "\n"
    )
    block = "\n".join(["# /// script", '# requires-python = ">=3.11"', "# dependencies = ["]
                      + [f'#   "{one}",' for one in REQUIREMENTS] + ["# ]", "# ///"])  # fmt: skip
    juv = notebook(folder / "juv.ipynb", [block, CELLS[1]])
    uv, juv_program = shutil.which("uv") or "uv", shutil.which("juv")

    def first() -> list[str]:
        notebook(fresh, CELLS)
        (folder / "fresh.lock.toml").unlink(missing_ok=True)
        return [*here, "lock", str(fresh)]

    found: dict[str, Callable[[], list[str]]] = {
        "allmend lock, first": first,
        "allmend lock, again": lambda: [*here, "lock", str(again)],
        "allmend lock --check": lambda: [*here, "lock", str(again), "--check"],
        "uv pip compile --generate-hashes": lambda: [
            *(uv, "pip", "compile", str(folder / "requirements.in"), "--generate-hashes", "-q"),
            *("-o", str(folder / "out.txt")),
        ],
        "allmend run": lambda: [*here, "run", str(plain), "--yes", "--profile", "base"],
        "allmend run --locked": lambda: [*here, "run", str(again), "--yes", "--locked"],
    }  # fmt: skip
    if juv_program:
        found["juv lock"] = lambda: [juv_program, "lock", str(juv)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    from allmend.box import owner

    variables = {**os.environ, **owner.uv_variables(owner.read().settings)}
    seconds: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        every = sides(Path(name))
        for number in range(options.rounds + 1):  # the first is the warming
            for side, prepare in every.items():
                command = prepare()
                began = time.perf_counter()
                done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    failed[side] = done.stderr.strip()[-300:]
                elif number:
                    seconds.setdefault(side, []).append(time.perf_counter() - began)
    medians = {side: round(statistics.median(taken), 3) for side, taken in seconds.items()}
    adds = None
    if {"allmend run", "allmend run --locked"} <= medians.keys():
        adds = round(1000 * (medians["allmend run --locked"] - medians["allmend run"]))
    result = {
        "command": f"python bench/lock/speed.py --rounds {options.rounds}",
        "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("uv", "juv", "ipykernel") if _there(name)},
        "requirements": REQUIREMENTS,
        "rounds": options.rounds,
        "median_seconds": medians,
        "all_seconds": {side: [round(one, 3) for one in taken] for side, taken in seconds.items()},
        "locked_adds_milliseconds": adds,
        "failed": failed,
        "note": "allmend's figures hold reading the notebook, and with `first` a check of every wheel in its cache; "
        "juv and uv are given the requirements in a list.",
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _there(name: str) -> bool:
    try:
        version(name)
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    main()
