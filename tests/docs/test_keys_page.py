"""Every command and line of Python of the page on keys works as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A database of the test's own."""
    from allmend import database
    from allmend.access import keys

    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ALLMEND_DATABASE", raising=False)
    database.forget()
    keys.forget()
    yield
    database.forget()
    keys.forget()


def test_every_command_works(capsys):
    from allmend.cli import run_command as run

    blocks = re.findall(r"^```(?:bash)?\n(.*?)^```", PAGE, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("allmend ")]
    lines = [line for line in lines if not line.startswith("allmend serve")]
    assert len(lines) >= 12
    for line in lines:
        assert run(shlex.split(line)[1:]) == 0, f"{line}\n{capsys.readouterr()}"
    assert "allm_" in capsys.readouterr().out


def test_the_python_works(capsys):
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    exec(compile(code, "keys.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1] == "anna True"
