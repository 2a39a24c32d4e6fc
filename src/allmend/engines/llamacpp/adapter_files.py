"""Adapters as files that llama.cpp reads, by name."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from allmend.adapters import AdapterWeights
from allmend.engines.llamacpp import lora_file
from allmend.errors import NotFound, nearest
from allmend.runs.alive import hold, is_alive, release

_PREFIX = "allmend-lora-"


class AdapterFiles:
    """The files; each is kept as long as it has a name or a request that uses it.

    Whoever calls anything but `take` holds the lock of the server that reads the files. That can take as long as a
    model takes to load, for which no request's event loop may wait.

    Attributes:
        folder: where they lie; it goes with `close`.
        by_name: the file of each adapter that can be used.
        sound: files that llama.cpp has loaded.
        refused: files that it did not, with what it said.
    """

    def __init__(self, model: Path) -> None:
        self._about = lora_file.about_model(model)
        _remove_left()
        self._temporary = tempfile.TemporaryDirectory(prefix=_PREFIX)
        self._lock = hold(Path(self._temporary.name))
        self.folder = Path(self._temporary.name) / "files"
        self.folder.mkdir()
        self.by_name: dict[str, Path] = {}
        self.sound: set[Path] = set()
        self.refused: dict[Path, str] = {}
        self._users: Counter[Path] = Counter()
        """Requests that were taken and need a file."""
        self._made = 0
        self._counting = threading.Lock()
        """Held for moments only. Taken last."""

    def put(self, name: str, weights: AdapterWeights) -> None:
        """Write an adapter; raises `InputError` where llama.cpp cannot apply it."""
        self._made += 1
        target = self.folder / f"{self._made}.gguf"
        lora_file.write(weights, self._about, target)
        with self._counting:
            before = self.by_name.get(name)
            self.by_name[name] = target
            self._clear(before)

    def remove(self, name: str) -> None:
        """Forget a name; raises `NotFound` where there is none."""
        with self._counting:
            self._check(name)
            self._clear(self.by_name.pop(name))

    def take(self, names: Iterable[str]) -> dict[str, Path]:
        """The files of these adapters, kept until `give_back`: one that is removed serves those who asked before."""
        names = list(names)
        with self._counting:
            for name in names:
                self._check(name)
            files = {name: self.by_name[name] for name in names}
            self._users.update(files.values())
            return files

    def give_back(self, files: dict[str, Path]) -> None:
        """A request that took these has ended."""
        with self._counting:
            self._users.subtract(files.values())
            for file in files.values():
                self._clear(file)

    def close(self) -> None:
        """Delete all."""
        release(self._lock)
        self._temporary.cleanup()

    def _check(self, name: str) -> None:
        if name not in self.by_name:
            raise NotFound(f"there is no adapter {name!r}", hint=nearest(name, self.by_name) or None)

    def _clear(self, file: Path | None) -> None:
        """Delete a file that has no name and no user any more; a server that runs has read it."""
        if file is not None and not self._users[file] and file not in self.by_name.values():
            file.unlink(missing_ok=True)
            self.refused.pop(file, None)
            self.sound.discard(file)
            del self._users[file]


def _remove_left() -> None:
    """Remove the folders of processes that were killed: adapters have megabytes each, and crashes come again."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # One without a lock was made at this moment, or by something else.
        if is_alive(folder) is False:
            shutil.rmtree(folder, ignore_errors=True)
