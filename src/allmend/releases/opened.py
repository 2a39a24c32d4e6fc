"""A release as something to serve: what of it is a model, and what an adapter on one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from allmend.releases.verify import is_release, read


@dataclass(frozen=True)
class Served:
    """What a release gives a server."""

    model: str
    """The folder of whole weights, or the base's name."""
    adapter: tuple[str, Path] | None = None
    """Name and folder, where the base has to be fetched beside it."""


def served(reference: str) -> Served | None:
    """What to serve for a folder; None when it is no release.

    The merged weights where there are any; else the adapter on its base.
    """
    folder = Path(reference).expanduser()
    if not folder.is_dir() or not is_release(folder):
        return None
    release = read(folder)
    merged = release.artefact("merged") or release.artefact("model")
    if merged is not None:
        return Served(str(folder / merged.path))
    adapter = release.artefact("adapter")
    path = folder / (adapter.path if adapter else "adapter")
    return Served(release.base, (release.name, path))
