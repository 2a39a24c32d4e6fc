"""Which files a cell wrote: the working folder looked at before and after."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

MOST_FILES = 50_000
MOST_DEPTH = 100


@dataclass
class Changes:
    """Files of a folder that appeared or changed, by the cell that was running."""

    folder: Path
    _known: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    by_path: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Relative path to (bytes, cell)."""
    incomplete: bool = False

    def look(self, cell: int) -> None:
        """Compare with the last look; links are not followed and not listed."""
        found = self._scan()
        for path, state in found.items():
            if self._known.get(path) != state:
                self.by_path[path] = (state[1], cell)
        for path in [path for path in self.by_path if path not in found]:
            del self.by_path[path]
        self._known = found

    def start(self) -> None:
        """Take what is there now as given."""
        self._known = self._scan()

    def _scan(self) -> dict[str, tuple[int, int, int]]:
        found: dict[str, tuple[int, int, int]] = {}
        pending = [""]
        while pending:
            inner = pending.pop()
            try:
                with os.scandir(self.folder / inner) as entries:
                    for entry in entries:
                        path = f"{inner}/{entry.name}" if inner else entry.name
                        if entry.is_dir(follow_symlinks=False):
                            # Each step down makes every look at what is beneath dearer.
                            if path.count("/") < MOST_DEPTH:
                                pending.append(path)
                            else:
                                self.incomplete = True
                        elif entry.is_file(follow_symlinks=False):
                            status = entry.stat(follow_symlinks=False)
                            found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
                        if len(found) + len(pending) > MOST_FILES:
                            self.incomplete = True
                            return found
            except OSError:
                continue
        return found
