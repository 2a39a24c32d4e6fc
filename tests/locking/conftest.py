"""A world, and a notebook's folder in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from world import World, made


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    folder = tmp_path / "world"
    (folder / "no-links").mkdir(parents=True)
    with made(folder) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server
