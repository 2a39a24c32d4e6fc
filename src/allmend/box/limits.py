"""Settling the limits of a run: what was written is kept or the run is refused, a default is lowered and
reported."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from allmend.errors import Unavailable
from allmend.nouns.permissions import Limits
from allmend.nouns.receipt import LimitRecord

DEFAULT_PROCESSES = 512
DEFAULT_TIME = 3600.0 * 6
DEFAULT_DISK = 20 * 2**30
_LEAST_MEMORY = 256 * 2**20
_FREE_DESCRIPTORS = 8192


@dataclass
class Settled:
    """The limits of one run and what holds each."""

    memory: int
    cpus: float | None
    processes: int
    time: float
    cell_time: float | None
    disk: int
    by_group: bool
    """Memory, processes and CPU are held by a control group."""
    rlimits: dict[str, int] = field(default_factory=dict)
    affinity: list[int] = field(default_factory=list)
    records: list[LimitRecord] = field(default_factory=list)


def settle(limits: Limits, *, cgroup: str, level: str, root: bool, scratch: Path) -> Settled:
    """The limits that will hold; one that nobody wrote is lowered to what this machine has.

    Args:
        cgroup: what control groups can be had, as `probe` says.
        level: of the box, A to D.
        scratch: the folder whose disk is counted.

    Raises:
        Unavailable: one that a person wrote cannot be kept.
    """
    grouped = cgroup != "none" and level != "D"
    total = _total_memory()
    memory = limits.memory or int(total * 0.8)
    if limits.memory and limits.memory > total:
        raise _cannot("memory", f"this machine has {total / 2**30:.1f} GiB")
    free = shutil.disk_usage(scratch).free
    if limits.disk and limits.disk > free:
        raise _cannot("disk", f"{free / 2**30:.1f} GiB are free")
    disk = limits.disk or min(DEFAULT_DISK, int(free * 0.8))
    available = sorted(os.sched_getaffinity(0))
    if limits.cpus and limits.cpus > len(available):
        raise _cannot("cpus", f"this machine has {len(available)}")
    settled = Settled(
        memory=max(memory, _LEAST_MEMORY) if not limits.memory else memory,
        cpus=limits.cpus,
        processes=limits.processes or DEFAULT_PROCESSES,
        time=limits.time or DEFAULT_TIME,
        cell_time=limits.cell_time,
        disk=disk,
        by_group=grouped,
    )
    if level == "D":
        written = [name for name in ("memory", "cpus", "processes", "disk") if getattr(limits, name) is not None]
        if written:
            raise _cannot(written[0], "nothing holds it without a box")
    settled.rlimits = {"CORE": 0, "FSIZE": disk, "NOFILE": _FREE_DESCRIPTORS}
    _hold_memory(settled, limits)
    _hold_processes(settled, limits, level=level, root=root)
    _hold_cpus(settled, limits, available)
    note = None if limits.disk or disk == DEFAULT_DISK else "lowered to what is free here"
    settled.records += [
        LimitRecord(name="time", value=settled.time, by="supervisor", written=limits.time is not None),
        LimitRecord(name="disk", value=disk, by="supervisor, each second", written=limits.disk is not None, note=note),
    ]
    if limits.cell_time:
        settled.records.append(LimitRecord(name="cell_time", value=limits.cell_time, by="supervisor", written=True))
    return settled


def _hold_memory(settled: Settled, limits: Limits) -> None:
    written = limits.memory is not None
    if settled.by_group:
        by, note = "control group", "counts all processes and files in memory"
    else:
        settled.rlimits["DATA"] = settled.memory
        by, note = "rlimit", "for each process by itself: no control group can be made here"
    settled.records.append(LimitRecord(name="memory", value=settled.memory, by=by, written=written, note=note))


def _hold_processes(settled: Settled, limits: Limits, *, level: str, root: bool) -> None:
    written = limits.processes is not None
    own_count = root or level == "A"  # a uid, or a user namespace, of the run's own
    if settled.by_group:
        by, note = "control group", None
    elif own_count:
        by, note = "rlimit", None
    else:
        settled.rlimits["NPROC"] = _processes_of(os.getuid()) + settled.processes
        by, note = "rlimit", "counted above the processes this user had at the start"
    if own_count:
        settled.rlimits["NPROC"] = settled.processes
    settled.records.append(LimitRecord(name="processes", value=settled.processes, by=by, written=written, note=note))


def _hold_cpus(settled: Settled, limits: Limits, available: list[int]) -> None:
    if limits.cpus is None:
        return
    if settled.by_group:
        by, note = "control group", None
    else:
        count = int(limits.cpus)
        if count != limits.cpus:
            raise _cannot("cpus", "without control groups only whole CPUs can be given")
        settled.affinity = available[:count]
        by, note = "affinity", None
    settled.records.append(LimitRecord(name="cpus", value=limits.cpus, by=by, written=True, note=note))


def _cannot(name: str, why: str) -> Unavailable:
    return Unavailable(
        f"the limit {name} cannot be kept: {why}",
        where="[limits]",
        hint=f"Change or remove {name} in the permissions.",
    )


def _total_memory() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(file).read_text()))
        except (OSError, ValueError):
            continue
    return total


def _processes_of(uid: int) -> int:
    count = 0
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and path.stat().st_uid == uid:
                count += len(list((path / "task").iterdir()))
        except OSError:
            continue
    return count
