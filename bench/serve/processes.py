"""Servers as processes: started on a free port, looked into through /proc, ended."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx


def free_port() -> int:
    """A port of this machine's loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children(pid: int) -> list[int]:
    """The processes that a process started, by any of its threads."""
    text = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(word) for word in text.split()]


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        try:
            todo.extend(children(one))
        except OSError:
            continue
    return found


def memory(pid: int) -> int:
    """MiB that a process holds, shared pages counted in part; 0 where it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) // 1024
    except OSError:
        pass
    return 0


class Isolated:
    """`allmend serve` with its engine in a process of its own.

    Attributes:
        loading: seconds that the engine's process took from its beginning to the server's readiness.
        model: the name that requests use.
    """

    def __init__(self, model: str, *flags: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            sys.executable,
            "-m",
            "allmend",
            "serve",
            model,
            "--port",
            str(port),
            "--isolate",
            "--context",
            "1024",
        ]
        self._process = subprocess.Popen([*command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.loading = self._wait()
        self.model = httpx.get(f"{self.url}/v1/models").json()["data"][0]["id"]

    def _wait(self) -> float:
        began = 0.0
        while True:
            if not began and self.engines():
                began = time.monotonic()
            try:
                if httpx.get(f"{self.url}/ready").status_code == 200:
                    return time.monotonic() - began
            except httpx.TransportError:
                pass
            if self._process.poll() is not None:
                raise SystemExit("the server ended")
            time.sleep(0.01)

    def engines(self) -> list[int]:
        """The engine's process, where it is there."""
        return children(self._process.pid)

    def memory(self) -> int:
        """MiB of the server and its engine."""
        return sum(memory(process) for process in family(self._process.pid))

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)
