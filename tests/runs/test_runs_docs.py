"""The commands and the code in docs/data.md and docs/runs.md are run as they stand."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from allmend import runs
from allmend.cli import run_command as command

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    chance = random.Random(4)
    for name in ("reviews.csv", "held.csv"):
        lines = [
            f"{' '.join(str(chance.random()) for _ in range(9))},{chance.choice(['good', 'bad'])}" for _ in range(60)
        ]
        (tmp_path / name).write_text("\n".join(["text,label", *lines]))
    for verb in ("tune", "verdict"):
        with runs.record(verb) as one:
            one.metric(0, loss=1.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["data.md", "runs.md"])
def test_every_command_works(folder, page):
    commands = [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("allmend ")]
    assert len(commands) >= 4
    for line in commands:
        if "--model" in line:
            continue  # Needs the default model; `data check --model` is tried in tests/data with a small one.
        assert command(line.split()[1:]) == 0, line


def test_the_code_works(folder):
    [code] = blocks("runs.md", "python")
    exec(compile(code, "runs.md", "exec"), {})
    found = runs.show("last:experiment")
    assert found.state == "done"
    assert Path(found.output("notes")).read_text() == "It went well."


def test_the_table_of_problems_is_complete():
    from typing import get_args

    from allmend.nouns.data_report import ProblemId

    page = (DOCS / "data.md").read_text()
    assert [name for name in get_args(ProblemId) if f"`{name}`" not in page] == []
