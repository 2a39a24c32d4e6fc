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
import stat
import tempfile
from contextlib import suppress
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
    """Remove a folder that hostile code wrote in: folders without permission bits, links, and folders nested deeper
    than a path or a recursion can reach. What this user may not remove stays.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        names = _names(top)
        while names:
            for name in names:
                _remove_entry(top, name)
            before, names = set(names), _names(top)
            if before >= set(names):
                break  # what is left does not give way
    finally:
        os.close(top)
    with suppress(OSError):
        path.rmdir()


def _remove_entry(top: int, name: str) -> None:
    """Remove one entry of the folder `top`. A folder's own folders are lifted beside it, so that none lies deep."""
    with suppress(OSError):
        if not _open_up(top, name):
            os.unlink(name, dir_fd=top)
            return
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
        try:
            for child in _names(inner):
                with suppress(OSError):
                    if _open_up(inner, child):
                        os.rename(child, secrets.token_hex(12), src_dir_fd=inner, dst_dir_fd=top)
                    else:
                        os.unlink(child, dir_fd=inner)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)


def _names(folder: int) -> list[str]:
    return os.listdir(folder)


def _open_up(folder: int, name: str) -> bool:
    """Whether an entry is a folder (no link to one), made enterable."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return False
    os.chmod(name, 0o700, dir_fd=folder)
    return True


def _identity(pid: int) -> str:
    """A pid with its start time: a number that was given out again is told apart."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("latin-1")  # a process may give itself a name that is no text
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
