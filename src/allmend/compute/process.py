"""A worker in a process of its own, spoken to in lines of JSON over its standard input and output.

The process is started afresh (no fork: torch has threads), in a session of its own, so that Ctrl-C reaches only the
scheduler, which then asks its workers to stop. A process that dies, however it dies, is heard as the end of its
output.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from allmend.compute.messages import EVENTS, Failed, Finished, Lost, Segment, Stop
from allmend.compute.worker import Listen
from allmend.errors import Unavailable

_LINE = 1 << 20
"""Longest message that is read, in bytes."""


class ProcessWorker:
    """A process that was started with what makes its trainer.

    Args:
        maker: `module:function`, called in the process with `settings` as keywords; gives a `Trainer`.
        settings: JSON values.
        threads: threads for it to compute with.
        log: file that its standard error goes to.
    """

    def __init__(
        self, maker: str, settings: dict[str, Any], *, name: str, threads: int | None = None, log: Path | None = None
    ) -> None:
        self.name = name
        self._segment: Segment | None = None
        self._lost = False
        self._lines: queue.Queue[bytes] = queue.Queue()
        environment = dict(os.environ)
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        with (log or Path(os.devnull)).open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "allmend.compute.inside"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
        self._log = log
        self._reader = threading.Thread(target=self._read, name=f"allmend-{name}", daemon=True)
        self._reader.start()
        self._send(json.dumps({"maker": maker, "settings": settings}))

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def busy(self) -> bool:
        """Whether a segment is under way."""
        return self._segment is not None

    @property
    def alive(self) -> bool:
        """Whether the process was not yet found dead."""
        return not self._lost

    def submit(self, segment: Segment) -> None:
        """Send it; a process that is starting takes it once it is ready."""
        assert self._segment is None
        self._segment = segment
        self._send(segment.model_dump_json())

    def pump(self, listen: Listen, seconds: float) -> None:
        """Hand over what has come, waiting for the first of it."""
        wait = seconds
        while not self._lost:
            try:
                line = self._lines.get(timeout=wait) if wait else self._lines.get_nowait()
            except queue.Empty:
                return
            wait = 0.0
            if line:
                self._hear(line, listen)
            else:
                self._end(listen)

    def stop(self) -> None:
        """Ask for an end after the step under way."""
        self._send(Stop().model_dump_json())

    def close(self) -> None:
        """Close its input, which ends it; it is killed where that does not help."""
        self._lost = True
        try:
            assert self._process.stdin is not None
            self._process.stdin.close()
        except OSError:
            pass
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _send(self, line: str) -> None:
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            pass  # It is dead; `pump` says so.

    def _read(self) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(_LINE):
            self._lines.put(line)
        self._lines.put(b"")

    def _hear(self, line: bytes, listen: Listen) -> None:
        try:
            event = EVENTS.validate_json(line)
        except ValidationError:
            raise Unavailable(
                f"the worker {self.name} said something that is no message",
                where=str(self._log) if self._log else None,
            ) from None
        if isinstance(event, Finished | Failed):
            self._segment = None
        listen(event)

    def _end(self, listen: Listen) -> None:
        self._lost = True
        code = self._process.wait()
        trial = self._segment.trial if self._segment else None
        self._segment = None
        how = f"killed by signal {-code}" if code < 0 else f"ended with {code}"
        listen(Lost(worker=self.name, trial=trial, message=f"worker {self.name} was {how}" if code < 0 else
                    f"worker {self.name} {how}"))  # fmt: skip
