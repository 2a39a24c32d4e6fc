"""The process that an engine runs in: started, spoken to, ended."""

from __future__ import annotations

import socket
import subprocess
import sys
from multiprocessing.connection import Connection

from allmend.engines.apart.wire import Answer, Build, Ready
from allmend.errors import Unavailable


class EngineProcess:
    """A process with an engine that is built and ready.

    Attributes:
        connection: messages of `wire`, both ways.
        ready: what the engine told of itself.

    Raises:
        Unavailable: it ended before it was ready.
        AllmendError: what building raised.
    """

    def __init__(self, build: Build) -> None:
        ours, theirs = socket.socketpair()
        try:
            command = [sys.executable, "-m", "allmend.engines.apart.worker", str(theirs.fileno())]
            # Results go to stdout, and this process has none.
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=2)
        finally:
            theirs.close()
        self.connection = Connection(ours.detach())
        self.ready = self._built(build)

    def _built(self, build: Build) -> Ready:
        try:
            self.connection.send(build)
            message = self.connection.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            self.connection.close()
            raise Unavailable(f"the engine's process ended before it was ready (code {code})") from None
        except BaseException:
            self.end()
            raise
        if isinstance(message, Answer):
            self.connection.close()
            self._process.wait()
            raise message.error or Unavailable("the engine's process did not start")
        assert isinstance(message, Ready)
        return message

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it is gone; raises `subprocess.TimeoutExpired` after so many seconds."""
        return self._process.wait(timeout)

    def end(self) -> None:
        """Wait until it is gone; one that does not go by itself is killed."""
        try:
            self.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.wait()
