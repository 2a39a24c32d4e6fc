"""Every command of docs/plan.md works, as a person types it, in a folder with a notebook."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plan.md").read_text()
COMMANDS = [line for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("plan")
    sources = ["!pip install thing", "import requests\nrequests.get('https://h.example/a')"]
    cells = [{"cell_type": "code", "source": source, "metadata": {}, "outputs": []} for source in sources]
    (place / "notebook.ipynb").write_text(json.dumps({"nbformat": 4, "metadata": {}, "cells": cells}))
    return place


def test_every_command_of_the_page_works(folder: Path) -> None:
    assert len(COMMANDS) >= 7
    environment = {**os.environ, "ALLMEND_HOME": str(folder / "home")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    shown = {}
    for line in COMMANDS:
        done = subprocess.run(
            line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        shown[line] = done.stdout
    assert "pip:thing" in shown["allmend plan notebook.ipynb"]
    assert json.loads((folder / "plan.json").read_text())["schema"] == "allmend.plan/1"
    assert json.loads((folder / "plan.sarif").read_text())["version"] == "2.1.0"
    assert "pip:thing" in (folder / "plan.html").read_text()


def test_every_kind_flag_and_finding_is_on_the_page() -> None:
    from typing import get_args

    from allmend.nouns.plan import EffectKind
    from allmend.planning.findings import _RULES

    assert [kind for kind in get_args(EffectKind) if f"`{kind}`" not in PAGE] == []
    assert [
        flag for flag in ("--json", "--sarif", "--html", "--diff", "--strict", "--follow") if flag not in PAGE
    ] == []
    assert len(_RULES) == 10, "the sentence under Findings names each of them"
