"""Level B's keeper, alone: whatever it started, and however that hides, ends with it."""

from __future__ import annotations

import os
import resource
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from boxed_jobs import open_python

from allmend.box.interior import INSIDE

NOBODYS = 31339
"""A user whose processes are counted for these tests alone."""


@pytest.fixture
def mark() -> str:
    """What the command lines of one test's processes end with."""
    return f"kept-{secrets.token_hex(8)}"


def kept(*command: str, **options: Any) -> subprocess.Popen[str]:
    python = open_python()[0]
    words = [python, "-I", "-S", str(INSIDE / "keeper.py"), str(os.getpid()), python, "-I", "-S", *command]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, **options)


def living(mark: str) -> list[str]:
    """Processes with a living thread whose command line ends so; those that are dead have none."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            threads = list((process / "task").iterdir()) if process.name.isdigit() else []
            lines = [(thread / "cmdline").read_bytes().rstrip(b"\0") for thread in threads]
        except OSError:
            continue
        if any(line.endswith(mark.encode()) for line in lines):
            found.append(process.name)
    return found


def is_gone(mark: str) -> bool:
    """Whether none is left, looked for often enough to see what is another process each time."""
    until, unseen = time.monotonic() + 120, 0
    while unseen < 50 and time.monotonic() < until:
        unseen = 0 if living(mark) else unseen + 1
        time.sleep(0.005)
    return unseen == 50


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 247)])
def test_it_ends_as_its_command_does(code: str, status: int) -> None:
    with kept("-c", code) as process:
        assert process.wait(60) == status


def test_its_command_hears_signals_as_any_program_does(mark: str) -> None:
    code = (
        "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []),"
        " open('/proc/self/status').read().split('SigIgn:')[1].split()[0])"
    )
    with kept("-c", code, mark) as process:
        assert process.stdout
        blocked, ignored = process.stdout.read().split()
    assert blocked == "set()"
    assert not int(ignored, 16) & sum(1 << each - 1 for each in (signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD))


LEAVES = "import os, subprocess, sys; subprocess.Popen([sys.executable, '-I', '-S', '-c', {!r}, {!r}]); {}"
"""Starts another program and goes on with something."""
HEADLESS = """
import _thread, ctypes, os, time
os.setsid()
_thread.start_new_thread(time.sleep, (600,))
print("ready", flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""
"""Its first thread has ended, so it looks dead; another goes on."""
COMET = """
import os
os.setsid()
print("ready", flush=True)
while True:
    if os.fork():
        os._exit(0)
"""
"""Never the same process for longer than a millisecond."""
STUBBORN = """
import os, signal, time
os.setsid()
for number in (1, 2, 3, 15):
    signal.signal(number, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


def limited() -> Callable[[], None]:
    """Lets 40 threads more begin, whoever runs this: a developer's own user has other programs too."""
    most = 40 + (threads_of(os.geteuid()) if os.geteuid() else 0)
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    return partial(resource.setrlimit, resource.RLIMIT_NPROC, (most, most))


def threads_of(user: int) -> int:
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            tasks = process / "task"
            found += len(list(tasks.iterdir())) if tasks.stat().st_uid == user else 0
        except OSError:
            continue
    return found


@pytest.mark.parametrize("code", [HEADLESS, COMET, STUBBORN], ids=["headless", "comet", "stubborn"])
@pytest.mark.parametrize("how", ["it ends", "told to", "killed above"])
def test_what_hides_ends_too(mark: str, code: str, how: str) -> None:
    user: dict[str, Any] = {"user": NOBODYS, "group": NOBODYS, "extra_groups": []} if os.geteuid() == 0 else {}
    stays = "import time; time.sleep(600)" if how != "it ends" else "sys.stdin.read()"
    command = ["-c", LEAVES.format(code, mark, stays)]
    if how == "killed above":
        python = open_python()[0]
        words = [python, "-I", "-S", str(INSIDE / "keeper.py"), "PID", python, "-I", "-S", *command]
        above = (
            f"import os, subprocess, sys; words = {words!r}; words[4] = str(os.getpid()); "
            "sys.exit(subprocess.Popen(words).wait())"
        )
        started = [python, "-I", "-S", "-c", above]
        process = subprocess.Popen(
            started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=limited(), **user
        )
    else:
        process = kept(*command, stdin=subprocess.PIPE, preexec_fn=limited(), **user)
    with process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "ready\n"
        if how == "it ends":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGTERM if how == "told to" else signal.SIGKILL)
        assert process.wait(120) == {"it ends": 0, "told to": 143, "killed above": -signal.SIGKILL}[how]
        assert is_gone(mark)
