"""Running many small programs in one box: no network, no files of this machine, limits on time and memory.

The box keeps this machine safe from the programs. A program counts as passed when it runs to its last line within its
time; what it prints is thrown away. Programs run beside each other under one user, so one that sets out to attack its
neighbours could spoil *their* results; that is a matter of the score, not of this machine.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_AT_ONCE, _CELL = 2, 16
_SECONDS, _MEMORY = 10, 1 << 30

# Runs inside. A program that ends early, by sys.exit or a crash, never prints the word that stands at its end.
_RUNNER = """
def __run(programs, words, seconds, memory, at_once):
    import concurrent.futures, json, os, resource, signal, subprocess, sys, tempfile
    def limits():
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 24, 1 << 24))
    def one(program, word):
        with tempfile.TemporaryDirectory() as folder:
            with open(folder + "/program.py", "w") as file:
                file.write(program + "\\nprint(" + repr(word) + ")\\n")
            with open(folder + "/out", "w+b") as out:
                child = subprocess.Popen([sys.executable, "-I", folder + "/program.py"], cwd=folder, stdout=out,
                                         stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=limits)
                try:
                    ended = child.wait(seconds)
                except subprocess.TimeoutExpired:
                    ended = -1
                try:
                    os.killpg(child.pid, signal.SIGKILL)
                except OSError:
                    pass
                child.wait()
                out.seek(max(0, out.seek(0, 2) - 200))
                return ended == 0 and out.read().decode("utf-8", "replace").rstrip().endswith(word)
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        print(json.dumps(list(pool.map(one, programs, words))))
"""


def run_programs(programs: Sequence[str], seconds: float = _SECONDS) -> list[bool]:
    """Whether each program runs to its end without an error.

    Raises `Unavailable` where this machine has no box: programs of a model are never run without one.
    """
    results: list[bool | None] = [None] * len(programs)
    pending = [list(range(start, min(start + _CELL, len(programs)))) for start in range(0, len(programs), _CELL)]
    while pending:
        with _box(seconds) as ask:
            while pending:
                places = pending.pop(0)
                found = ask([programs[place] for place in places])
                if found is None:
                    # Something in there ended the box itself: each alone tells which.
                    if len(places) == 1:
                        results[places[0]] = False
                    else:
                        pending = [[place] for place in places] + pending
                    break
                for place, passed in zip(places, found, strict=True):
                    results[place] = passed
    return [bool(result) for result in results]


@contextmanager
def _box(seconds: float) -> Iterator[_Ask]:
    from allmend.box import environment, levels
    from allmend.box.box import Box
    from allmend.box.execute import Kernel
    from allmend.box.settings import Settings
    from allmend.nouns.permissions import Permissions

    level, why = levels.choose()
    settings = Settings(Permissions(), environment.of(), Path.cwd(), level=level, why=why)
    with Box(settings) as box:
        kernel = Kernel(box.connection, lambda: box.ended is not None)
        try:
            kernel.wait_until_ready()
            yield _Ask(kernel, seconds)
        finally:
            kernel.close()


class _Ask:
    """Hands programs to the kernel inside and reads what became of them; None when the box ended."""

    def __init__(self, kernel: object, seconds: float) -> None:
        self._kernel, self._seconds = kernel, seconds

    def __call__(self, programs: list[str]) -> list[bool] | None:
        from allmend.box.execute import Kernel, KernelGone

        kernel = self._kernel
        assert isinstance(kernel, Kernel)
        words = [secrets.token_hex(12) for _ in programs]
        order = json.dumps([programs, words, self._seconds, _MEMORY, _AT_ONCE])
        cell = f"{_RUNNER}\nimport json\n__run(*json.loads({order!r}))"
        most = 30 + (self._seconds + 2) * -(-len(programs) // _AT_ONCE)
        try:
            outcome = kernel.run(cell, show=lambda shown: None, seconds=most)
        except KernelGone:
            return None
        if outcome.status != "ok":
            return None
        text = "".join(str(output.get("text", "")) for output in outcome.outputs if output.get("name") == "stdout")
        found = re.search(r"^\[(?:(?:true|false)(?:, )?)*\]$", text, re.M)
        passed = json.loads(found.group()) if found else None
        return passed if isinstance(passed, list) and len(passed) == len(programs) else None
