"""What tests of engines share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def model(model_cache: Path) -> Iterator[Any]:
    """The default model in float32, loaded by transformers; its GGUF lies in the same home."""
    before = os.environ.get("ALLMEND_HOME")
    os.environ["ALLMEND_HOME"] = str(model_cache)
    from allmend.models.loading import load
    from allmend.models.resolve import resolve

    try:
        yield load(resolve("gemma-3-270m"), dtype="float32")
    finally:
        os.environ.pop("ALLMEND_HOME")
        if before is not None:
            os.environ["ALLMEND_HOME"] = before
