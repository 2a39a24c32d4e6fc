"""Level B, outside the confinement: keeps hold of everything the box starts, and ends all of it.

Without a pid namespace a process that leaves its session would outlive the run. The keeper adopts such orphans
(subreaper), dies when the supervisor dies, and takes every descendant with it. Nothing inside may signal it
(Landlock).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main(supervisor: int, command: list[str]) -> int:
    """Run `command`, wait for it, end what it left; returns its exit status."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != supervisor:
        return 143
    status = 1
    try:
        child = subprocess.Popen(command, close_fds=False)
        # Ours would keep the launcher's sockets open after its death.
        os.closerange(3, 4096)
        while True:
            pid, state = os.wait()
            if pid == child.pid:
                status = os.waitstatus_to_exitcode(state)
                break
    finally:
        end_descendants()
    return status & 0xFF


def end_descendants() -> None:
    """Kill every descendant, again and again until none is left (at most ten seconds)."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return  # whoever lost its parent was given to us, so nobody is left
        time.sleep(0.005)


def descendants(root: int) -> list[int]:
    """Every living process beneath `root`."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                # As bytes: a process may give itself a name that is no text.
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state != b"Z":
                parents[int(name)] = int(parent)
    found = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return sorted(found - {root})


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
