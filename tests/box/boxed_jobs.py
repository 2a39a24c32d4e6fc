"""How box tests run: each in a process of its own, as root and as an ordinary user, at each level.

Nothing here skips: where level A cannot be had, the tests fail and say what is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from allmend.box.probe import probe
from allmend.nouns.receipt import Receipt

HERE = Path(__file__).parent
SOURCE = HERE.parent.parent / "src"
USER = 31337
WHO = ["root", "user"] if os.geteuid() == 0 else ["user"]
"""Tests run as root cover both; an ordinary user can only be itself."""
CASES = [(level, who) for level in ("A", "B") for who in WHO]
CASE_IDS = [f"{level}-{who}" for level, who in CASES]


@pytest.fixture(scope="session", autouse=True)
def level_a_can_be_tested() -> None:
    """Fail, not skip: a green run must mean that the wall was tested."""
    lacking = probe().lacking_a
    if lacking:
        pytest.fail(f"level A cannot be tested here: {'; '.join(lacking)}. {probe().how_to_get_a()}", pytrace=False)


@cache
def open_python() -> tuple[str, str]:
    """An interpreter of this version that other users can reach, and the PYTHONPATH that gives it our packages."""
    sites = [p for p in sys.path if p.endswith("site-packages")]
    for candidate in (
        sys.executable,
        f"/usr/bin/python3.{sys.version_info[1]}",
        f"/usr/local/bin/python3.{sys.version_info[1]}",
    ):
        if Path(candidate).exists() and _open(os.path.realpath(candidate)):
            extra = [] if candidate == sys.executable else sites
            return candidate, os.pathsep.join([str(SOURCE), *extra])
    pytest.fail(
        "no interpreter of this version can be reached by other users (all lie under closed folders), so the tests as an "
        "ordinary user and of level B as root cannot run; install the distribution's python3",
        pytrace=False,
    )


def _open(path: str) -> bool:
    return all(parent.stat().st_mode & 1 for parent in Path(path).parents)


@dataclass
class Ran:
    """What a job came to."""

    receipt: Receipt
    cells: list[dict[str, Any]]
    world: dict[str, Any]
    folder: Path
    html: str

    def text(self, cell: int) -> str:
        """A cell's outputs as text."""
        parts = []
        for output in self.cells[cell].get("outputs", []):
            data = output.get("data", {})
            parts.append(output.get("text") or "\n".join(output.get("traceback", [])) or data.get("text/plain", ""))
        return "\n".join(parts)

    def events(self, kind: str, target: str = "", cell: int | None = None) -> list[Any]:
        """Events of a kind whose target holds a text."""
        return [
            e for e in self.receipt.events if e.kind == kind and target in e.target and (cell is None or e.cell == cell)
        ]


@dataclass
class Jobs:
    """Makes and runs jobs; each has a folder that is its user's own."""

    base: Path
    made: int = 0
    folders: list[Path] = field(default_factory=list)

    def prepare(
        self, cells: list[str], *, level: str = "A", who: str = WHO[0], permissions: str = "", **extra: Any
    ) -> Path:
        """Write a job; returns its folder."""
        self.made += 1
        folder = self.base / f"job{self.made}"
        (folder / "host").mkdir(parents=True)
        (folder / "out").mkdir()
        (folder / "home").mkdir()
        (folder / "host" / "id_rsa").write_text("CANARY-KEY-5309\n")
        for name, data in extra.pop("files", {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        order = {
            "level": level,
            "permissions": permissions,
            "trace": False,
            "keep_going": True,
            "names": {
                "allowed.example": "93.184.216.34",
                "other.example": "93.184.216.35",
                "rebind.example": "127.0.0.1",
            },
            "operator": False,
            "environment": {},
            "web_port": None,
            "uploads": [],
            "plan": None,
            "scratch": None,
            **extra,
        }
        (folder / "order.json").write_text(json.dumps(order))
        made = [
            {"cell_type": "code", "source": c, "metadata": {}, "outputs": [], "execution_count": None} for c in cells
        ]
        document = {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
        (folder / "attack.ipynb").write_text(json.dumps(document))
        if who == "user" and os.geteuid() == 0:
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, USER, USER)
        return folder

    def command(self, folder: Path, level: str, who: str) -> tuple[list[str], dict[str, str]]:
        """The command line and environment that run a prepared job."""
        python, path = (sys.executable, str(SOURCE)) if (level, who) == ("A", "root") else open_python()
        command = [python, str(HERE / "driver.py"), str(folder)]
        if who == "user" and os.geteuid() == 0:
            command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin",
            "PYTHONPATH": path,
            "HOME": str(folder / "home"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "UNDECLARED_TOKEN": "CANARY-ENV-8472",
            "GRANTED": "granted-value-11",
            "OMP_NUM_THREADS": "1",
        }
        return command, environment

    def result(self, folder: Path) -> Ran:
        """Read what a finished job left."""
        out = folder / "out"
        html = out / "receipt.html"
        world = folder / "world.json"
        return Ran(
            Receipt.from_json((out / "receipt.json").read_text()),
            json.loads((out / "executed.ipynb").read_text())["cells"],
            json.loads(world.read_text()) if world.exists() else {},
            folder,
            html.read_text() if html.exists() else "",
        )

    def run(self, cells: list[str], *, level: str = "A", who: str = WHO[0], timeout: float = 120, **extra: Any) -> Ran:
        """Run cells as a notebook and read what came of it."""
        folder = self.prepare(cells, level=level, who=who, **extra)
        command, environment = self.command(folder, level, who)
        done = subprocess.run(
            command, env=environment, cwd="/", capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert not done.stderr.strip(), done.stderr[-4000:]
        return self.result(folder)


@pytest.fixture(scope="session")
def jobs() -> Iterator[Jobs]:
    """A maker of jobs in a folder that an ordinary user can reach."""
    base = Path(tempfile.mkdtemp(prefix="allmend-test-", dir="/var/tmp"))
    base.chmod(0o755)
    yield Jobs(base)
    shutil.rmtree(base, ignore_errors=True)
