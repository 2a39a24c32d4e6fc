"""The folder one run works in: made fresh, never the person's own, gone afterwards whatever happened.

RUN/           0711, root's or the person's
  ipc/         the kernel's sockets, nothing else (Landlock lets nothing else be made there)
  content/     the working folder
  layer/       packages the run installs itself
  home/        the home folder (level B; at level A it is a tmpfs)
  etc/         generated passwd, hosts, resolv.conf, the connection file
  owner        pid and start time of the supervisor, so that a later run can tell an orphan
"""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
from pathlib import Path

_PREFIX = "allmend-run-"
FOLDERS = ("ipc", "content", "layer", "home", "etc")


def run_uid(pid_space: int = 1 << 20) -> int:
    """A high uid that no account and no process of this machine has: for one run, when started as root."""
    taken = {int(line.split(":")[2]) for line in Path("/etc/passwd").read_text().splitlines() if line.count(":") > 2}
    taken |= {path.stat().st_uid for path in Path("/proc").iterdir() if path.name.isdigit() and path.exists()}
    while True:
        uid = 0x50000000 + secrets.randbelow(pid_space)
        if uid not in taken:
            return uid


class Scratch:
    """One run's folder."""

    def __init__(self, parent: Path | None = None) -> None:
        base = parent or Path(tempfile.gettempdir())
        sweep(base)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        (self.path / "owner").write_text(_identity(os.getpid()))
        for name in FOLDERS:
            (self.path / name).mkdir(mode=0o755)
        # Others may pass through to what is theirs, but not list.
        self.path.chmod(0o711)
        self.ipc.chmod(0o700)

    @property
    def ipc(self) -> Path:
        """The sockets' folder; its path must stay short (AF_UNIX takes 107 bytes)."""
        return self.path / "ipc"

    @property
    def content(self) -> Path:
        """The working folder."""
        return self.path / "content"

    @property
    def layer(self) -> Path:
        """The run's own packages."""
        return self.path / "layer"

    @property
    def home(self) -> Path:
        """The home folder of level B."""
        return self.path / "home"

    @property
    def etc(self) -> Path:
        """Generated files."""
        return self.path / "etc"

    def give_to(self, uid: int, gid: int) -> None:
        """Hand the writable folders to the run's own uid (as root)."""
        for folder in (self.ipc, self.content, self.layer, self.home):
            os.lchown(folder, uid, gid)
            for parent, folders, files in os.walk(folder):
                for name in (*folders, *files):
                    os.lchown(Path(parent, name), uid, gid)

    def remove(self) -> None:
        """Take the folder away, also what hostile code left without permission bits. Links are not followed."""
        remove_tree(self.path)


def remove_tree(path: Path) -> None:
    """Remove a folder that hostile code wrote in; nothing writes in it any more.

    By `rm`, which is at ease with folders nested deeper than a path can be long; Python's own removal is not. Folders
    whose permission bits were taken away are opened first. Links are not followed by either.
    """
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        try:
            subprocess.run(
                [*command, "--", str(path)], stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return
        if not path.exists():
            return


def _identity(pid: int) -> str:
    """A pid with its start time: a number that was given out again is told apart."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return f"{pid} {stat.rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return ""


def sweep(base: Path) -> None:
    """Remove the folders of supervisors that were killed."""
    for path in base.glob(f"{_PREFIX}*"):
        try:
            if path.is_symlink() or path.stat().st_uid != os.geteuid():
                continue
            owner = (path / "owner").read_text()
        except OSError:
            continue
        pid = owner.partition(" ")[0]
        if pid.isdigit() and _identity(int(pid)) != owner:
            remove_tree(path)
