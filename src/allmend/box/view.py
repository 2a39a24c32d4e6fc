"""What is visible inside a box, and with which rights: one list for the mounts and for Landlock.

An empty root plus what is listed. Nothing is hidden by a deny list.
"""

from __future__ import annotations

import os
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Right = Literal["read", "work", "device", "sockets"]

SYSTEM = ("/usr",)
SYSTEM_LINKS = ("lib", "lib64", "lib32", "bin", "sbin")
ETC_FILES = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl",
    "pki",
    "ca-certificates",
    "ca-certificates.conf",
    "localtime",
    "timezone",
    "alternatives",
    "mime.types",
    "fonts",
    "protocols",
    "services",
    "magic",
    "debian_version",
    "os-release",
    "lsb-release",
)
"""What programs look for in /etc; nothing with accounts, keys or this machine's names."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm")


@dataclass(frozen=True)
class Shown:
    """One path: where it is here, where it appears inside, with which right."""

    source: str
    target: str
    right: Right


@dataclass
class View:
    """Everything visible. `temporary` are empty folders in memory."""

    shown: list[Shown] = field(default_factory=list)
    temporary: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    """Names at the root of the box that lead to a place inside it."""
    device_names: tuple[str, ...] = DEVICES
    """Of /dev."""

    def show(self, source: Path | str, target: str | None = None, right: Right = "read") -> None:
        """Add a path; at its own place when `target` is None. A path already shown inside another is not
        repeated."""
        entry = Shown(str(source), target or str(source), right)
        if entry not in self.shown:
            self.shown.append(entry)

    def rules(self) -> list[tuple[str, Right]]:
        """Landlock's rules, by the paths as they are inside."""
        rules: list[tuple[str, Right]] = [(entry.target, entry.right) for entry in self.shown]
        rules += [(path, "work") for path in self.temporary]
        rules += [(f"/dev/{name}", "work" if name == "shm" else "device") for name in self.device_names]
        rules += [(path, "device") for path in self.devices]
        return [*rules, ("/proc", "read")]

    def permits(self, path: str, writing: bool, overlays: Container[str] = ()) -> bool:
        """Whether the box lets `path` through, judged by its text.

        Args:
            overlays: generated files, by where they are inside; they can be read.
        """
        path = os.path.normpath(path)
        for target, right in sorted(self.rules(), key=lambda rule: -len(rule[0])):
            if path == target or path.startswith(target.rstrip("/") + "/"):
                return right in ("work", "device", "sockets") or not writing
        if path in overlays:
            return not writing
        return any(entry.target.startswith(path.rstrip("/") + "/") for entry in self.shown) and not writing


def system() -> View:
    """The operating system's programs and libraries, read-only."""
    view = View()
    for folder in SYSTEM:
        view.show(folder)
    for name in SYSTEM_LINKS:
        path = Path("/", name)
        if path.is_dir() and not path.is_symlink():
            view.show(path)
    for name in ETC_FILES:
        if Path("/etc", name).exists():
            view.show(f"/etc/{name}")
    return view
