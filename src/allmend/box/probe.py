"""What this machine can enforce, found by trying it: reading a setting is not enough (AppArmor, containers)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from allmend.box.inside import landlock, syscalls

_NOTIFY_CHECK = """
import sys; sys.path.append(sys.argv[1])
import ctypes
from inside import seccomp, syscalls
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
seccomp.install(seccomp.program(syscalls.machine(), watch=("execve",)), listener=True)
"""

_APPARMOR = (
    "On Ubuntu 24.04 and later an administrator can allow it: put `abi <abi/4.0>,\\ninclude <tunables/global>\\n"
    "profile bwrap /usr/bin/bwrap flags=(unconfined) { userns, }` into /etc/apparmor.d/bwrap and run "
    "`apparmor_parser -r /etc/apparmor.d/bwrap`."
)


@dataclass(frozen=True)
class Machine:
    """The findings of one probe."""

    linux: bool
    architecture: str
    root: bool
    bwrap_path: str | None
    bubblewrap: str | None
    """Version text of bwrap."""
    bwrap_works: bool
    bwrap_sized_tmpfs: bool
    landlock_abi: int
    seccomp_notify: bool
    cgroup: str
    """`v2`, `v1` or `none`: whether control groups can be made here."""
    trouble: tuple[str, ...] = field(default=())
    """What bwrap said when it failed."""

    @property
    def lacking_a(self) -> list[str]:
        """What level A lacks, empty when it can be had."""
        if not self.linux:
            return ["level A needs Linux"]
        lacking = []
        if self.architecture not in syscalls.ARCHITECTURES:
            lacking.append(f"there is no system call table for {self.architecture}")
        if self.bwrap_path is None:
            lacking.append("bubblewrap (the program `bwrap`) is not installed")
        elif not self.bwrap_works:
            lacking.append(f"bubblewrap fails here: {' '.join(self.trouble) or 'no message'}")
        if self.landlock_abi < 1:
            lacking.append("the kernel has no Landlock, or it is switched off")
        if not self.seccomp_notify:
            lacking.append("the kernel has no seccomp notifications")
        return lacking

    def how_to_get_a(self) -> str:
        """What a person can do to get level A here."""
        if not self.linux:
            return (
                "On macOS and Windows run allmend inside a Linux virtual machine "
                "(WSL 2, Lima, a container with user namespaces)."
            )
        if self.bwrap_path is None:
            return "Install bubblewrap: `apt-get install bubblewrap`, or the same with dnf or `pacman -S`."
        if not self.bwrap_works:
            return (
                f"Unprivileged user namespaces are probably forbidden here. {_APPARMOR} "
                "In a container, allow user namespaces."
            )
        return "It needs Linux 5.13 or later with Landlock among the active security modules."


@lru_cache(maxsize=1)
def probe() -> Machine:
    """Try everything once; takes about 100 ms."""
    linux = sys.platform.startswith("linux")
    if not linux:
        return Machine(False, syscalls.machine(), False, None, None, False, False, 0, False, "none")
    from allmend.box import cgroups

    path = _find_bwrap()
    version = _version(path) if path else None
    works, trouble, sized = _try_bwrap(path) if path else (False, (), False)
    return Machine(
        linux=True,
        architecture=syscalls.machine(),
        root=os.geteuid() == 0,
        bwrap_path=path,
        bubblewrap=version,
        bwrap_works=works,
        bwrap_sized_tmpfs=sized,
        landlock_abi=landlock.abi(),
        seccomp_notify=_try_notify(),
        cgroup=cgroups.kind(),
        trouble=trouble,
    )


def _find_bwrap() -> str | None:
    found = shutil.which("bwrap") or shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin")
    if found is None:
        return None
    # As root, a bwrap that others can replace would be run with root's rights.
    status = Path(found).stat()
    if os.geteuid() == 0 and (status.st_uid != 0 or status.st_mode & 0o022):
        return None
    return found


def _version(path: str) -> str | None:
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.removeprefix("bubblewrap").strip() or None


def _try_bwrap(path: str) -> tuple[bool, tuple[str, ...], bool]:
    """Whether a real box starts; the trouble; whether `--size` is known."""
    base = [
        path,
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--die-with-parent",
        "--new-session",
    ]
    if os.geteuid() != 0:
        base += ["--unshare-user", "--uid", "0", "--gid", "0"]
    base += ["--cap-drop", "ALL", "--cap-add", "CAP_NET_BIND_SERVICE"]
    view = [*("--ro-bind", "/", "/"), "--dev", "/dev", "--proc", "/proc"]
    try:
        sized = subprocess.run(
            [*base, *view, "--size", "65536", "--tmpfs", "/tmp", "/bin/true"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        if sized.returncode == 0:
            return True, (), True
        plain = subprocess.run([*base, *view, "/bin/true"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, (str(error),), False
    return plain.returncode == 0, tuple(plain.stderr.strip().splitlines()[:3]), False


def _try_notify() -> bool:
    """Whether a filter with a listener can be installed, tried in a process of its own."""
    if syscalls.machine() not in syscalls.ARCHITECTURES:
        return False
    inside = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _NOTIFY_CHECK, inside], capture_output=True, timeout=20, check=False
    )
    return done.returncode == 0
