"""A build context that serves the release: for OCI builders (Dockerfile) and for Cog (`cog.yaml`, `predict.py`).

Nothing here needs a container engine to be tried: `serve.py`, `health.py` and `predict.py` run as they are.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from allmend import __version__

FOLDER = "container"
_FILES = {
    "Dockerfile": "Dockerfile",
    "serve.py": "serve.py.txt",
    "health.py": "health.py.txt",
    "predict.py": "predict.py.txt",
    "cog.yaml": "cog.yaml",
}


def write(release: Path, name: str) -> None:
    """Write `container/` into a release."""
    folder = release / FOLDER
    folder.mkdir()
    texts = resources.files("allmend.releases").joinpath("context")
    for target, source in _FILES.items():
        text = texts.joinpath(source).read_text("utf-8")
        (folder / target).write_text(text.replace("@VERSION@", __version__).replace("@NAME@", name), "utf-8")
