"""Level B, outside the confinement: keeps hold of everything the box starts, and ends all of it.

Without a pid namespace a process that leaves its session would outlive the run. The keeper adopts such orphans
(subreaper), is told when the supervisor dies, and takes every descendant with it. Nothing inside may signal it
(Landlock).
"""

from __future__ import annotations

# `signal` and `subprocess` would cost a tenth of the time before the kernel begins.
import _signal  # type: ignore[import-not-found]
import ctypes
import os
import sys
import time

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_STOPPED = 143


def main(supervisor: int, command: list[str]) -> int:
    """Run `command`, wait for it, end what it left; returns its exit status, or 143 where it was told to stop."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    # Waited for, not handled: a handler runs too late where a wait has just begun, or in the middle of the ending.
    awaited = {_signal.SIGTERM, _signal.SIGCHLD}
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, awaited)
    libc.prctl(_PR_SET_PDEATHSIG, _signal.SIGTERM, 0, 0, 0)
    if os.getppid() != supervisor:
        return _STOPPED
    child = _start(command, before)
    # Ours would keep the launcher's sockets open after its death.
    os.closerange(3, 4096)
    status = None
    while status is None:
        heard = _signal.sigwaitinfo(awaited).si_signo
        status = _STOPPED if heard == _signal.SIGTERM else _collected(child)
    end_descendants()
    return status & 0xFF


def _start(command: list[str], mask: set[int]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores them, and what it starts would too.
            _signal.signal(number, _signal.SIG_DFL)
        os.execv(command[0], command)
    finally:
        os._exit(127)


def _collected(child: int) -> int | None:
    """Take in who has died; the exit status of `child` where it is among them."""
    found = None
    try:
        while True:
            pid, state = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return found
            if pid == child:
                found = os.waitstatus_to_exitcode(state)
    except ChildProcessError:
        return found


def end_descendants() -> None:
    """Kill every descendant, again and again until none is left.

    The dead are not collected before the last has died: as long as they count against the limit on processes, those
    that come into being faster than they are found soon cannot any more.
    """
    while True:
        mine, beneath = _descendants(os.getpid())
        for pid in (*mine, *beneath):
            try:
                os.kill(pid, _signal.SIGKILL)
            except OSError:
                pass
        if all(_is_dead(pid) for pid in mine):
            _collected(0)
            if not _has_children():
                return  # whoever lost its parent was given to us, so nobody is left
        time.sleep(0.005)


def _is_dead(child: int) -> bool:
    """Whether a child, with all of its threads, has died; it stays to be collected."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _descendants(root: int) -> tuple[list[int], list[int]]:
    """(children, those beneath them) of a process. The dead too: one whose first thread alone has ended looks dead."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                # As bytes: a process may give itself a name that is no text.
                with open(f"/proc/{name}/stat", "rb") as file:
                    parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, ValueError):
                continue
    mine = {pid for pid, parent in parents.items() if parent == root}
    found, grown = set(mine), True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return sorted(mine), sorted(found - mine)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
