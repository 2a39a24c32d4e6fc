"""A search's files under another run, and in the run's own folder, without copying bytes where that can be had."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from allmend.search.sampling import FILE
from allmend.search.state import RECORD, TRIALS


def take_over(source: Path, target: Path) -> None:
    """Put the files of a search that was interrupted under the run that goes on with it.

    The record is last: only with it a run is one to go on with, and a kill may come before.
    """
    for path in [source / FILE, *(source / TRIALS).rglob("*"), *(source / "adapter").rglob("*"), source / RECORD]:
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.name == FILE:
                shutil.copyfile(path, place)
            else:
                link(path, place)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the disk cannot do that."""
    # Files are only ever replaced by rename, so a second name is as good as a copy.
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
