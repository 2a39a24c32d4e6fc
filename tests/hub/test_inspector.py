"""Looking at uploads, while the hub ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from allmend.hub import inspecting


def test_a_look_that_begins_in_the_moment_the_hub_ends_ends_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub: Any = None
    inspector = inspecting.Inspector(hub)
    popen, started = subprocess.Popen, list[Any]()

    def begun(command: list[str], **given: Any) -> Any:
        started.append(popen([sys.executable, "-c", "import time; time.sleep(600)"], **given))
        inspector.close()
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", begun)
    with pytest.raises(RuntimeError, match="closing"):
        inspector._run(tmp_path)
    assert started[0].poll() is not None
