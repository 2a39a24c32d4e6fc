"""Work on untrusted bytes in a process of its own, with a limit on its memory and on the time of every answer.

A file that makes its reader crash, loop or swell costs that process, never ours: it is killed, the bytes are
refused, and the next ones get a new process. This bounds; it does not confine: the process may do what we may.

    python -m allmend.compute.limited module:function MEMORY

is that process: it reads (length, bytes), calls the function, and writes (outcome, length, bytes).
"""

from __future__ import annotations

import importlib
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from allmend.errors import InputError, Unavailable

_LENGTH = struct.Struct("<Q")


class Limited:
    """A function from bytes to bytes that runs elsewhere; one call at a time, from any thread.

    Args:
        function: `module:function`; a `ValueError` it raises is said to the caller as an `InputError`.
        memory: bytes of address space that its process may have.
        seconds: that an answer may take.
        most: bytes of an answer.
    """

    def __init__(self, function: str, *, memory: int, seconds: float, most: int) -> None:
        self._function, self._memory, self._seconds, self._most = function, memory, seconds, most
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __call__(self, given: bytes) -> bytes:
        """The function's answer.

        Raises:
            InputError: it refused the bytes, needed too long or too much, or died of them.
        """
        with self._lock:
            process = self._running()
            late = threading.Event()

            def end() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(self._seconds, end)
            timer.start()
            try:
                refused, answer = self._exchange(process, given)
            except (OSError, EOFError):
                self._end()
                if late.is_set():
                    raise InputError(f"it was not read within {self._seconds:g} s") from None
                raise InputError("reading it took too much memory, or its reader died of it") from None
            finally:
                timer.cancel()
                timer.join()
            if late.is_set():
                self._end()
        if refused:
            raise InputError(answer.decode("utf-8", "replace")[:500])
        return answer

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            command = [sys.executable, "-m", "allmend.compute.limited", self._function, str(self._memory)]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # Threads of their own take address space, of which there is a limit.
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )
            try:
                assert self._process.stdout is not None
                if self._process.stdout.read(1) != b"r":
                    raise Unavailable(f"{self._function} cannot be started", hint="Is its extra installed?")
            except BaseException:
                self._end()
                raise
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], given: bytes) -> tuple[bool, bytes]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(_LENGTH.pack(len(given)))
        process.stdin.write(given)
        process.stdin.flush()
        outcome = _exactly(process.stdout, 1)
        (length,) = _LENGTH.unpack(_exactly(process.stdout, _LENGTH.size))
        if length > self._most:
            self._end()
            raise InputError(f"what is in it comes to more than {self._most} bytes")
        return outcome != b"\0", _exactly(process.stdout, length)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        pass  # Bytes that it never read.


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def main() -> None:
    """The process: answers until its input ends."""
    import resource

    # What a library prints must not mix with answers.
    out, into = os.fdopen(os.dup(1), "wb"), sys.stdin.buffer
    os.dup2(2, 1)
    name, memory = sys.argv[1:]
    module, _, function = name.partition(":")
    work: Callable[[bytes], bytes] = getattr(importlib.import_module(module), function)
    # After the import: libraries reserve more than they use.
    resource.setrlimit(resource.RLIMIT_AS, (_reserved() + int(memory),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out.write(b"r")
    out.flush()
    while head := into.read(_LENGTH.size):
        given = _exactly(into, _LENGTH.unpack(head)[0])
        try:
            outcome, answer = b"\0", work(given)
        except ValueError as error:
            outcome, answer = b"\1", str(error).encode()
        out.write(outcome + _LENGTH.pack(len(answer)))
        out.write(answer)
        out.flush()


def _reserved() -> int:
    """Address space of this process so far, in bytes."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return 4 << 30


if __name__ == "__main__":
    main()
