"""The build context, tried without a container engine: its entry points are run as they lie in the release."""

from __future__ import annotations

import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import small

from allmend.verbs.ship import ship


@pytest.fixture
def release(place: Path) -> Path:
    ship(small.run(place), container=True, to=place / "out", prompts=2)
    return place / "out"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def test_it_serves_and_its_health_check_says_so(release: Path, place: Path) -> None:
    port = str(free_port())
    environment = {**os.environ, "ALLMEND_PORT": port, "ALLMEND_HOME": str(place / "served")}
    health = [sys.executable, str(release / "container" / "health.py")]
    assert subprocess.run(health, env=environment, timeout=60).returncode == 1
    entry = [sys.executable, str(release / "container" / "serve.py"), "--dtype", "float32"]
    before = {path: path.stat().st_mtime_ns for path in release.rglob("*")}
    with subprocess.Popen(entry, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:
        try:
            end = time.monotonic() + 240
            while subprocess.run(health, env=environment, timeout=60).returncode:
                assert server.poll() is None and time.monotonic() < end, server.stderr and server.stderr.read()
                time.sleep(0.2)
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=120)
    assert server.returncode == 130
    # A read-only root is enough: nothing in the release was written to.
    assert {path: path.stat().st_mtime_ns for path in release.rglob("*")} == before


def test_the_dockerfile_is_for_a_user_without_rights(release: Path) -> None:
    text = (release / "container" / "Dockerfile").read_text()
    assert re.search(r"^USER 65532", text, re.M) and re.search(r"^HEALTHCHECK ", text, re.M)
    assert "--read-only" in text and "@" not in re.sub(r"#.*", "", text).replace("@", "@", 0).split("==")[0]
    copied = re.findall(r"/release/(container/\S+\.py)", text)
    assert len(copied) == 2 and all((release / name).is_file() for name in copied)


def test_cog_s_predictor_answers(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Cog builds containers; of it the predictor needs two names.
    cog: Any = types.ModuleType("cog")
    cog.BasePredictor = object
    cog.Input = lambda default=..., **_: default
    monkeypatch.setitem(sys.modules, "cog", cog)
    place, _, name = re.search(  # type: ignore[union-attr]
        r'^predict: "(.+)(:)(\w+)"', (release / "container" / "cog.yaml").read_text(), re.M
    ).groups()
    predictor = runpy.run_path(str(release / place))[name]()
    predictor.setup()
    assert isinstance(predictor.predict("0: is red red?", max_tokens=4), str)
