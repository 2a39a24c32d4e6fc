"""Settings of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# One thread: tests run beside each other, and tiny matrices are faster without a crew.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def model_home() -> Path:
    """An ALLMEND_HOME that outlives the tests, so that the default model is fetched and converted once a machine.

    `ALLMEND_TEST_HOME` names it; otherwise it is a folder under the user's cache.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("ALLMEND_TEST_HOME") or cache / "allmend-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
