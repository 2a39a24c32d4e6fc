"""The process that an engine runs in: started, spoken to, ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection

from allmend.engines.apart.pulse import Watch, work
from allmend.engines.apart.wire import Answer, Build, Ready
from allmend.errors import Unavailable

_BY_ITSELF = 2.0
"""Seconds that a process is given to go by itself; it has nothing to put away."""
_END_SECONDS = 30.0
"""Seconds that a killed process is waited for: one that the system holds (a disk that does not answer) goes later."""


class EngineProcess:
    """A process with an engine, from its start; `get_ready` waits until that is built.

    Args:
        limit: seconds without a sign of life after which it is killed; 0 for never.

    Attributes:
        connection: messages of `wire`, both ways.
        hung: why it was taken for hung and killed, where it was.
    """

    def __init__(self, build: Build, limit: float = 0.0) -> None:
        ours, theirs = socket.socketpair()
        heard, told = os.pipe()
        self.hung: str | None = None
        try:
            numbers = [theirs.fileno(), told]
            command = [sys.executable, "-m", "allmend.engines.apart.worker", *map(str, numbers), str(limit)]
            # Results go to stdout, and this process has none.
            self._process = subprocess.Popen(command, pass_fds=numbers, stdin=subprocess.DEVNULL, stdout=2)
        except BaseException:
            os.close(heard)
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(told)
        self.connection = Connection(ours.detach())
        self._build = build
        self._watch = Watch(heard, limit, self._kill, lambda: work(self.pid))

    def get_ready(self) -> Ready:
        """What the engine tells of itself, once it is built.

        Raises:
            Unavailable: it ended before it was ready.
            AllmendError: what building raised.
        """
        try:
            self.connection.send(self._build)
            message = self.connection.recv()
        except (EOFError, OSError):
            self.end()
            self.connection.close()
            raise Unavailable(f"the engine's process ended before it was ready ({self.why})") from None
        except BaseException:
            self.end()
            raise
        if isinstance(message, Answer):
            self.connection.close()
            self.end()  # A thread of what was built half may keep it.
            raise message.error or Unavailable("the engine's process did not start")
        assert isinstance(message, Ready)
        self._watch.built()
        return message

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def why(self) -> str:
        """What became of it."""
        code = self._process.poll()
        return f"it hung: {self.hung}" if self.hung else "it goes on" if code is None else f"code {code}"

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it is gone; raises `subprocess.TimeoutExpired` after so many seconds."""
        return self._process.wait(timeout)

    def end(self) -> None:
        """Wait until it is gone; one that does not go by itself is killed."""
        try:
            self.wait(timeout=_BY_ITSELF)
        except subprocess.TimeoutExpired:
            self._process.kill()
            try:
                self.wait(timeout=_END_SECONDS)
            except subprocess.TimeoutExpired:
                threading.Thread(target=self.wait, name="allmend-engine-end", daemon=True).start()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def hang_up(self) -> None:
        """End what is read from and written to it."""
        # Closing alone would leave a thread of ours that reads from it waiting for ever.
        try:
            with socket.socket(fileno=os.dup(self.connection.fileno())) as copy:
                copy.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _kill(self, why: str) -> None:
        self.hung = why
        self._process.kill()
        # One that the system holds does not end at once.
        self.hang_up()
