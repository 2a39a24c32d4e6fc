"""Memory, process and CPU limits by control group, version 2 or 1, where this process may make groups.

Version 2 layout: Documentation/admin-guide/cgroup-v2.rst; version 1: cgroup-v1/. A group counts everything
inside the
box, tmpfs included. Where none can be made the limits fall to rlimits, and the receipt says so.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from functools import lru_cache
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_PREFIX = "allmend-"
_V1_CONTROLLERS = ("memory", "pids", "cpu")
_GONE_WITHIN = 15.0  # seconds


@lru_cache(maxsize=1)
def kind() -> str:
    """`v2`, `v1` or `none`, by making and removing a group."""
    for version in ("v2", "v1"):
        for parent in _parents(version):
            # No other thread's name: a second look that finds the group there would take that for a refusal.
            probe = parent / f"{_PREFIX}{os.getpid()}-probe-{secrets.token_hex(4)}"
            try:
                probe.mkdir()
                usable = version == "v1" or (probe / "memory.max").exists()
                probe.rmdir()
            except OSError:
                break
            if not usable:
                break
        else:
            if _parents(version):
                return version
    return "none"


def _parents(version: str) -> list[Path]:
    """The folders in which a group is made: one for v2, one a controller for v1."""
    if version == "v2":
        if not (ROOT / "cgroup.controllers").exists():
            return []
        own = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2].lstrip("/")
        # A group with processes cannot have child groups with controllers, so a sibling of ours is made.
        return [(ROOT / own).parent if own else ROOT]
    return [ROOT / name for name in _V1_CONTROLLERS] if all((ROOT / n).is_dir() for n in _V1_CONTROLLERS) else []


class Group:
    """One control group (one a controller in version 1) around one box."""

    def __init__(self, name: str) -> None:
        self.version = kind()
        self.paths = [parent / f"{_PREFIX}{os.getpid()}-{name}" for parent in _parents(self.version)]
        self.trouble: list[str] = []

    def create(self, *, memory: int | None, processes: int | None, cpus: float | None) -> None:
        """Make the group and set its limits; what cannot be set is named in `trouble`."""
        for path in self.paths:
            path.mkdir(exist_ok=True)
        if self.version == "v2":
            group = self.paths[0]
            values = {"memory.oom.group": "1", "memory.swap.max": "0"} if memory else {}
            if memory:
                values["memory.max"] = str(memory)
            if processes:
                values["pids.max"] = str(processes)
            if cpus:
                values["cpu.max"] = f"{int(cpus * 100_000)} 100000"
            for name, value in values.items():
                self._set(group / name, value)
            return
        by_name = dict(zip(_V1_CONTROLLERS, self.paths, strict=True))
        if memory:
            self._set(by_name["memory"] / "memory.limit_in_bytes", str(memory))
            swap = by_name["memory"] / "memory.memsw.limit_in_bytes"
            if swap.exists():
                self._set(swap, str(memory))
        if processes:
            self._set(by_name["pids"] / "pids.max", str(processes))
        if cpus:
            self._set(by_name["cpu"] / "cpu.cfs_period_us", "100000")
            self._set(by_name["cpu"] / "cpu.cfs_quota_us", str(int(cpus * 100_000)))

    def _set(self, file: Path, value: str) -> None:
        try:
            file.write_text(value)
        except OSError as error:
            if file.name not in ("memory.swap.max", "memory.oom.group", "memory.memsw.limit_in_bytes"):
                self.trouble.append(f"{file.name}: {error.strerror}")

    @property
    def entries(self) -> list[str]:
        """The files a process writes its pid to in order to be counted."""
        return [str(path / "cgroup.procs") for path in self.paths]

    def peak_memory(self) -> int | None:
        """Bytes at the highest point, or None where the kernel does not say."""
        names = ("memory.peak",) if self.version == "v2" else ("memory.max_usage_in_bytes",)
        return self._number(names[0])

    def out_of_memory(self) -> bool:
        """Whether the kernel killed something in the group for memory."""
        name = "memory.events" if self.version == "v2" else "memory.oom_control"
        if not self.paths:
            return False
        try:
            lines = (self.paths[0] / name).read_text().split("\n")
        except OSError:
            return False
        return any(line.split()[1:] != ["0"] for line in lines if line.startswith("oom_kill "))

    def _number(self, name: str) -> int | None:
        try:
            return int((self.paths[0] / name).read_text())
        except (OSError, ValueError, IndexError):
            return None

    def kill(self) -> None:
        """Kill everything in the group."""
        for path in self.paths:
            try:
                (path / "cgroup.kill").write_text("1")
            except OSError:
                _kill_listed(path)

    def remove(self) -> None:
        """Take the group away once its last processes are gone, which a busy machine can draw out for seconds."""
        deadline = time.monotonic() + _GONE_WITHIN
        for path in self.paths:
            while time.monotonic() < deadline:
                try:
                    path.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    _kill_listed(path)
                    time.sleep(0.02)


def _kill_listed(path: Path) -> None:
    try:
        pids = [int(line) for line in (path / "cgroup.procs").read_text().split()]
    except (OSError, ValueError):
        return
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


def sweep() -> None:
    """Remove groups that a killed supervisor left behind."""
    for parent in _parents(kind()):
        for path in parent.glob(f"{_PREFIX}*-*"):
            owner = path.name.removeprefix(_PREFIX).partition("-")[0]
            if owner.isdigit() and not Path(f"/proc/{owner}").exists():
                _kill_listed(path)
                try:
                    path.rmdir()
                except OSError:
                    pass
