"""A hub on a loopback port with a folder and a database of its own, and stock clients of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import hubs


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home and a store of the module's own; nothing of the person's is touched."""
    folder = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLMEND_HOME", str(folder / "home"))
        patch.delenv("ALLMEND_DATABASE", raising=False)
        for name in ("HF_TOKEN", "HF_ENDPOINT"):
            patch.delenv(name, raising=False)
        import huggingface_hub.constants as constants

        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield folder
        os.environ.pop("ALLMEND_DATABASE", None)


@pytest.fixture(scope="module")
def hub(place: Path) -> Iterator[hubs.Running]:
    """A hub that runs."""
    import hubs

    with hubs.running(place / "store") as made:
        yield made
