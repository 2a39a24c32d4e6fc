"""The processes of a box, seen from outside: how they are started, whether they live, how they are ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from allmend.box import bubblewrap, cgroups
from allmend.box.interior import INSIDE, Interior
from allmend.box.view import View
from allmend.errors import Unavailable

_LAUNCH = "import sys; sys.path.append(sys.argv[1]); from inside.launcher import main; main(int(sys.argv[2]))"
_ENTER = 'for f in $1; do echo $$ > "$f"; done; shift; exec "$@"'
"""Counted from its first instruction on: a child made before it was moved into its control group would not be."""


class Processes:
    """All that runs in one box, as one child of the thread that starts it.

    Attributes:
        peak_memory: bytes, where a control group counted them; None before the end and elsewhere.
    """

    def __init__(self, interior: Interior) -> None:
        self._interior = interior
        self._process: subprocess.Popen[bytes] | None = None
        self._group: cgroups.Group | None = None
        self._errors: IO[bytes] | None = None
        self.peak_memory: int | None = None

    def start(self, shown: View, control_fd: int, passed: Sequence[int]) -> None:
        """Start the launcher behind the wall of its level.

        Args:
            shown: what is visible inside.
            control_fd: the launcher's end of the control socket.
            passed: all descriptors that it inherits.

        Raises:
            Unavailable: a limit that a person wrote cannot be kept.
        """
        self._count()
        entries = " ".join(self._group.entries) if self._group else ""
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _ENTER, "sh", entries, *self._command(shown, control_fd)],
            pass_fds=tuple(passed),
            stdin=subprocess.DEVNULL,
            stdout=self._said(),
            stderr=self._said(),
            env={},
            cwd="/",
            start_new_session=True,
        )

    def start_plainly(self) -> None:
        """Level D: a kernel like any other, in the notebook's own folder, with the person's own environment."""
        interior = self._interior
        python, file = interior.scratch.layer / "bin" / "python", interior.scratch.etc / "connection.json"
        self._process = subprocess.Popen(
            [str(python), "-m", "ipykernel_launcher", "-f", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=self._said(),
            stderr=self._said(),
            cwd=interior.settings.folder,
            env={**os.environ, "PATH": f"{python.parent}:{os.environ.get('PATH', '')}"},
            start_new_session=True,
        )

    def _count(self) -> None:
        """Put what comes into a control group, where the limits are kept by one."""
        limits = self._interior.limits
        if not limits.by_group:
            return
        group = cgroups.Group(self._interior.scratch.path.name.rpartition("-")[2])
        group.create(memory=limits.memory, processes=limits.processes, cpus=limits.cpus)
        self._group = group
        if group.trouble and any(record.written for record in limits.records):
            raise Unavailable(f"a limit cannot be kept: {'; '.join(group.trouble)}")

    def _command(self, shown: View, control_fd: int) -> list[str]:
        interior = self._interior
        python = [interior.settings.environment.executable, "-I", "-S"]
        launch = [*python, "-c", _LAUNCH, str(Path(interior.inside).parent), str(control_fd)]
        if not interior.places.separate:
            return [*python, str(INSIDE / "keeper.py"), str(os.getpid()), *launch]
        machine, limits = interior.machine, interior.limits
        assert machine.bwrap_path is not None
        # Three folders in memory, which only a control group would count.
        room = limits.disk if limits.by_group else min(limits.disk, limits.memory // 4)
        size = room if machine.bwrap_sized_tmpfs else None
        wall = bubblewrap.arguments(
            machine.bwrap_path, shown, root=machine.root, chdir="/", tmpfs_bytes=size, overlays=interior.overlays
        )
        return [*wall, "--", *launch]

    def _said(self) -> IO[bytes]:
        if self._errors is None:
            self._errors = (self._interior.scratch.path / "errors").open("w+b")
        return self._errors

    @property
    def alive(self) -> bool:
        """Whether they are there."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """As of `subprocess`; None while they live."""
        return self._process.returncode if self._process is not None else None

    def out_of_memory(self) -> bool:
        """Whether the control group ended one of them for its memory."""
        group = self._group
        return group is not None and group.out_of_memory()

    def last_words(self) -> str:
        """The last line that they wrote to their error stream; empty where that says nothing."""
        if self._errors is None:
            return ""
        try:
            self._errors.flush()
            written = (self._interior.scratch.path / "errors").read_bytes()[-2000:]
        except (OSError, ValueError):
            return ""
        text = written.decode("utf-8", "replace").strip()
        # What every kernel says at its start, which ends with this, is nobody's last word.
        said = text.rpartition("--existing ")[2].splitlines() if "--existing " in text else ["", *text.splitlines()]
        return said[-1] if len(said) > 1 else ""

    def kill(self) -> None:
        """End all of them, without waiting."""
        process, level = self._process, self._interior.settings.level
        if process is not None and process.poll() is None:
            # bwrap takes its pid namespace with it; the keeper of level B first ends what it keeps.
            process.send_signal(signal.SIGTERM if level == "B" else signal.SIGKILL)
            if level == "D":
                _end_session(process.pid)
        group = self._group  # `finish` may take it away meanwhile, on another thread.
        if group is not None:
            self.peak_memory = group.peak_memory() or self.peak_memory
            if self._interior.places.separate:
                group.kill()

    def finish(self) -> None:
        """End all of them and wait until they are gone."""
        self.kill()
        if self._process is not None:
            try:
                self._process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        group = self._group
        if group is not None:
            group.kill()
            group.remove()
            self._group = None

    def close(self) -> None:
        """Let go of what they wrote; none of them is left."""
        if self._errors is not None:
            self._errors.close()


def _end_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass
