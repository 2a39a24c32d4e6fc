"""Where things are inside a box: neutral names at level A, this machine's own paths at level B."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from allmend.box.scratch import Scratch
from allmend.errors import NotFound, Refused
from allmend.nouns.permissions import Permissions


@dataclass(frozen=True)
class Places:
    """Paths as code inside sees them."""

    run: str
    """The connection file and the stand-ins."""
    content: str
    layer: str
    ipc: str
    home: str
    drive: str
    data: str
    """Where granted folders from outside the notebook's own appear."""
    temporary: str
    uploads: str
    """Files given with `--upload`."""
    separate: bool
    """Whether paths inside differ from this machine's (a mount namespace)."""

    @classmethod
    def of(cls, level: str, scratch: Scratch) -> Places:
        """The places of a level."""
        if level == "A":
            return cls(
                "/run/allmend", "/content", "/env", "/run/kernel", "/home/user",
                "/content/drive/MyDrive", "/data", "/tmp", "/run/allmend/uploads", True,
            )  # fmt: skip
        base = str(scratch.path)
        content = str(scratch.content)
        return cls(
            str(scratch.etc), content, str(scratch.layer), str(scratch.ipc), str(scratch.home),
            f"{content}/drive/MyDrive", f"{base}/data", str(scratch.home), f"{base}/uploads", False,
        )  # fmt: skip

    def reads(self, permissions: Permissions, folder: Path) -> list[tuple[str, str]]:
        """(source, target) of each granted path: a relative one keeps its place beside the notebook, others
        come to
        `/data/NAME`. Raises `NotFound` or `Refused`.
        """
        found = []
        for text in permissions.files.read:
            path = Path(text).expanduser()
            try:
                source = (folder / path).resolve(strict=True)
            except OSError:
                raise NotFound(f"{text}: there is no such file or folder to read", where="[files] read") from None
            _no_sockets(source, text)
            inner = os.path.normpath(text)
            if path.is_absolute() or inner.startswith("..") or text.startswith("~"):
                target = f"{self.data}/{source.name or 'root'}"
            else:
                target = self.content if inner == "." else f"{self.content}/{inner}"
            if target == self.content:
                raise Refused(
                    "the notebook's whole folder cannot be shown at once",
                    where="[files] read",
                    hint='Name the files and folders it needs, e.g. read = ["data"].',
                )
            found.append((str(source), target))
        return found


def _no_sockets(source: Path, text: str) -> None:
    """A granted folder must not hold a socket: what listens there would serve the notebook from outside the
    box."""
    seen = 0
    for parent, _, files in os.walk(source):
        for name in files:
            seen += 1
            if Path(parent, name).is_socket():
                raise Refused(f"{text} holds the socket {name}, a way out of the box", where="[files] read")
        if seen > 200_000:
            return
