"""What the notebook's machine looks like so far: working directory, environment, files that it fetched or made."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import Any

from allmend.planning.evaluation.values import DERIVED, HOLE_START

_ROOTS = ("/content/", "/kaggle/working/", "/notebooks/", "/workspace/", "/home/jovyan/")
MAXIMUM = 20_000
_WEIGHT_FOLDERS = re.compile(
    r"(?:pretrained|saved|local|trained)?_?(?:models?|checkpoints?|ckpts?|weights?|outputs?|results?|logs?|runs?"
    r"|data|datasets?|experiments?|assets|configs?|pretrained)(?:_\w+)?(?:/|$)",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Clone:
    """A repository that the notebook fetched."""

    url: str
    path: str
    row: dict[str, Any] | None
    pinned: bool


@dataclass(slots=True)
class World:
    """Paths are compared by `key`, which takes Colab's and Kaggle's start folders as the start folder."""

    state: dict[str, Any] = field(default_factory=lambda: {"<cwd>": ""})
    environment: dict[str, Any] = field(default_factory=dict)
    clones: dict[str, Clone] = field(default_factory=dict)
    fetched: dict[str, str] = field(default_factory=dict)
    """Fetched file -> where from."""
    texts: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """File written by the notebook -> its text and the place that wrote it."""
    made: set[str] = field(default_factory=set)
    mounts: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    search: list[str] = field(default_factory=list)
    """Folders put on `sys.path` or PYTHONPATH."""
    saved: set[str] = field(default_factory=set)
    """Names and folders that the notebook saved models or data under."""

    @property
    def cwd(self) -> str:
        """The working directory; empty for wherever the notebook started."""
        return str(self.state["<cwd>"])

    def resolve(self, path: str, cwd: str | None = None) -> str:
        """`path` as seen from the start: joined with the working directory, without `.` and `..` where possible."""
        base = self.cwd if cwd is None else cwd
        derived = DERIVED if DERIVED in path else ""
        path = path.replace(DERIVED, "")
        if path.startswith("~"):
            return derived + path
        if base and not path.startswith("/") and path not in ("$HOME", "$PWD"):
            if HOLE_START in path and path.startswith(HOLE_START):
                return derived + path
            path = posixpath.join(base, path)
        if not path:
            return derived
        normal = posixpath.normpath(path)
        return derived + (normal if normal != "." else ".")

    def key(self, path: str, cwd: str | None = None) -> str:
        """A key under which spellings of one path are equal."""
        full = self.resolve(path, cwd).replace(DERIVED, "")
        for root in _ROOTS:
            if full.startswith(root):
                return full[len(root) :]
            if full == root[:-1]:
                return ""
        return "" if full == "." else full

    def clone_of(self, path: str, cwd: str | None = None) -> Clone | None:
        """The clone that `path` lies in, if it lies in one."""
        key = self.key(path, cwd)
        while key not in ("", "/"):
            if key in self.clones:
                return self.clones[key]
            shorter = posixpath.dirname(key)
            if shorter == key:
                break
            key = shorter
        if not key.startswith("/") and "" in self.clones:
            return self.clones[""]
        return self._by_name(self.key(path, cwd)) if self.clones else None

    def _by_name(self, key: str) -> Clone | None:
        """A clone with the name of one of the path's folders: where the way to it is not known for sure."""
        parts = {part for part in key.split("/")[:-1] if len(part) > 3} | {key.rsplit("/", 1)[-1]}
        return next(
            (clone for known, clone in self.clones.items() if known and known.rsplit("/", 1)[-1] in parts), None
        )

    def source_of(self, path: str, cwd: str | None = None) -> str | None:
        """Where the file at `path`, or the folder it was unpacked into, was fetched from."""
        key = self.key(path, cwd)
        while key not in ("", "/"):
            if key in self.fetched:
                return self.fetched[key]
            shorter = posixpath.dirname(key)
            if shorter == key:
                break
            key = shorter
        return None

    def was_made(self, path: str, cwd: str | None = None) -> bool:
        """Whether the notebook made `path`, or a folder it lies in."""
        key = self.key(path, cwd).rstrip("/*")
        if self.clone_of(path, cwd) or self.source_of(path, cwd):
            return True
        while key not in ("", "/"):
            if key in self.made or key in self.texts or key in self.saved:
                return True
            shorter = posixpath.dirname(key)
            if shorter == key:
                break
            key = shorter
        return False

    def is_local(self, name: str, cwd: str | None = None) -> bool:
        """Whether something that could be a hub's name is a file or folder that the notebook made or fetched.

        Unlike `was_made`, standing in a clone does not make every name local.
        """
        here = self.key(".", cwd)
        key = self.key(name, cwd).rstrip("/*")
        if _WEIGHT_FOLDERS.match(name) and here and (self.was_made(".", cwd) or self.drive(".", cwd)):
            return True
        known = (self.made, self.texts, self.saved, self.fetched, self.clones)
        while key not in ("", "/", here):
            if any(key in places for places in known):
                return True
            shorter = posixpath.dirname(key)
            if shorter == key:
                break
            key = shorter
        return False

    def make(self, path: str, cwd: str | None = None) -> None:
        """Note that the notebook made `path`."""
        if len(self.made) < MAXIMUM:
            self.made.add(self.key(path, cwd))

    def drive(self, path: str, cwd: str | None = None) -> str | None:
        """`path` under the mounted Drive, through links that the notebook made; None when it is elsewhere."""
        full = self.resolve(path, cwd).replace(DERIVED, "")
        for link, target in self.links.items():
            if full == link or full.startswith(link + "/"):
                full = target + full[len(link) :]
        for mount in (*self.mounts, "/content/drive", "/content/gdrive"):
            if full == mount or full.startswith(mount + "/"):
                return full
        for mount in self.mounts:
            relative = mount.removeprefix("/content/")
            if relative != mount and (full == relative or full.startswith(relative + "/")):
                return "/content/" + full
        if full.startswith(("drive/MyDrive", "gdrive/MyDrive", "drive/My Drive", "gdrive/My Drive")):
            return "/content/" + full
        return None
