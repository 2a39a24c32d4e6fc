"""A real server over real notebooks in the box."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import allmend
import notebooks
from allmend.verbs.app import AppServer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebooks that are served."""
    made = tmp_path_factory.mktemp("served")
    notebooks.write(made, "wave.ipynb", notebooks.FORM, notebooks.SHOW, notebooks.RICH, notebooks.KEEP)
    notebooks.write(made, "slow.ipynb", "import time\nprint('begun', flush=True)\ntime.sleep(600)", words="# Slow")
    notebooks.write(made, "asks.ipynb", notebooks.ASKS, words="# Asks")
    notebooks.write(made, "clicks.ipynb", notebooks.CLICKS, words="# Clicks")
    notebooks.write(made, "wrong.ipynb", "1 / 0", "print('never')", words="# Wrong")
    return made


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The server."""
    with allmend.app(folder, yes=True, port=0, store=tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
def client(server: AppServer) -> Iterator[httpx.Client]:
    """A visitor with cookies of their own."""
    with httpx.Client(base_url=server.url, timeout=120) as made:
        made.get("/")
        yield made


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """One notebook that serves a hostile page and a websocket, after its last cell."""
    folder = tmp_path_factory.mktemp("serving")
    path = notebooks.write(folder, "serving.ipynb", notebooks.WEB_SERVER, notebooks.WEB_ADDRESS, words="# Serving")
    with allmend.app(path, yes=True, port=0, store=tmp_path_factory.mktemp("store")) as running:
        yield running
