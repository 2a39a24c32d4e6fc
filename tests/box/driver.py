"""Runs one job in a process of its own, so that a test can be root or an ordinary user, and can be killed.

Around the box it puts what an attack would want: a file with a canary, a secret in the environment, a process to hurt,
servers on the loopback that must not be reached. What became of them is written to `world.json`.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from allmend.box import document, environment, owner, page
from allmend.box.box import Box
from allmend.box.job import Job
from allmend.box.run import run, write_atomically
from allmend.box.settings import Settings
from allmend.nouns.permissions import Permissions
from allmend.nouns.plan import Plan


class Server(threading.Thread):
    """A loopback TCP server that keeps what it was sent, and answers HTTP."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self.sock = sock
        self.heard: list[bytes] = []
        self.connections = 0
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.sock.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection, self.connections - 1), daemon=True).start()

    def _serve(self, connection: socket.socket, place: int) -> None:
        self.heard.append(b"")
        connection.settimeout(60)
        answered = False
        try:
            while block := connection.recv(65536):
                self.heard[place] += block
                if not answered and b"\r\n\r\n" in self.heard[place] and self.heard[place][:1] != b"\x16":
                    answered = True
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nCONTENT")
        except OSError:
            pass
        connection.close()


def tcp(port: int = 0) -> Server:
    sock = socket.create_server(("127.0.0.1", port))
    return Server(sock)


def main(folder: Path) -> None:
    order = json.loads((folder / "order.json").read_text())
    os.environ.update(order["environment"])
    secret_server, web, victim = tcp(), tcp(), subprocess.Popen(["/bin/sleep", "600"])
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0allmend-test-{os.getpid()}")
    abstract.listen()
    named_path = folder / "host.sock"
    named = socket.socket(socket.AF_UNIX)
    named.bind(str(named_path))
    named.listen()
    local, path_server = Server(abstract), Server(named)
    world = {
        "canary": str(folder / "host" / "id_rsa"),
        "host": str(folder / "host"),
        "port": secret_server.sock.getsockname()[1],
        "victim": victim.pid,
        "supervisor": os.getpid(),
        "abstract": f"allmend-test-{os.getpid()}",
        "socket": str(named_path),
        "home": os.environ["HOME"],
        "shared": SHARED,
    }
    shared = share()
    names: dict[str, str] = order["names"]

    async def resolver(name: str, port: int) -> list[tuple[str, int]]:
        if name not in names:
            raise OSError("no such name")
        return [(names[name], port)]

    async def connect(address: str, port: int):
        return await asyncio.open_connection("127.0.0.1", order["web_port"] or web.sock.getsockname()[1])

    nb = folder / "attack.ipynb"
    text = nb.read_text()
    for key, value in world.items():
        text = text.replace(f"@{key.upper()}@", str(value))
    nb.write_text(text)
    read = document.read(nb)
    settings = Settings(
        Permissions.from_toml(order["permissions"]),
        environment.of(),
        folder,
        level=order["level"],
        why=["test"],
        trace=order["trace"],
        operator=owner.Operator() if not order["operator"] else owner.read(),
        colab=True,
        uploads=tuple(folder / name for name in order["uploads"]),
        resolver=resolver,
        connect=connect,
        scratch_parent=Path(order["scratch"]) if order["scratch"] else None,
    )
    job = Job(
        read.content,
        nb.name,
        read.sha256,
        settings,
        folder / "out" / "executed.ipynb",
        folder / "out" / "receipt.json",
        plan=Plan.model_validate(order["plan"]) if order["plan"] else None,
        keep_going=order["keep_going"],
        operator_grants=settings.operator.grants,
    )
    boxes: list[Box] = []
    before = look(Path(world["host"]), victim.pid)
    (folder / "pid").write_text(str(os.getpid()))
    receipt = run(job, box_made=boxes.append)
    write_atomically(folder / "out" / "receipt.html", page.html(receipt, read.content))
    time.sleep(0.1)
    after = {
        "victim_alive": victim.poll() is None,
        "secret_connections": secret_server.connections,
        "abstract_connections": local.connections,
        "socket_connections": path_server.connections,
        "web": [data.decode("latin-1") for data in web.heard],
        "home": sorted(str(p.relative_to(world["home"])) for p in Path(world["home"]).rglob("*")),
        "host": sorted(p.name for p in Path(world["host"]).iterdir()),
        "uid": boxes[0].interior.uid,
        "changed": changed(Path(world["host"]), before, victim.pid),
        "scratch_gone": not boxes[0].scratch.path.exists(),
        "left": processes_of(boxes[0].interior.uid) if os.geteuid() == 0 else [],
    }
    unshare_memory(shared)
    victim.kill()
    victim.wait()
    (folder / "world.json").write_text(json.dumps(after))


SHARED = 0x616C6D00 + os.getpid() % 255
"""The key of a piece of memory that is there for others to share."""


def share() -> int:
    return int(ctypes.CDLL(None).shmget(SHARED, 4096, 0o1600))


def unshare_memory(number: int) -> None:
    ctypes.CDLL(None).shmctl(number, 0, None)


def look(folder: Path, pid: int) -> list[object]:
    """What a box could change from afar: modes and times of files, limits and priority of processes."""
    files = [(str(p), p.stat().st_mode, p.stat().st_mtime_ns) for p in (folder, *sorted(folder.iterdir()))]
    processes = [
        (
            who,
            resource.prlimit(who, resource.RLIMIT_CPU),
            os.getpriority(os.PRIO_PROCESS, who),
            os.sched_getaffinity(who),
        )
        for who in (pid, os.getpid())
    ]
    return [files, processes]


def changed(folder: Path, before: list[object], pid: int) -> bool:
    return look(folder, pid) != before


def processes_of(uid: int) -> list[int]:
    """The living processes of a user; one that has ended and only waits for this machine's first process to
    collect it (states Z and X of proc(5)) runs nothing more, however slow that process is."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and path.stat().st_uid == uid:
                state = (path / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    found.append(int(path.name))
        except OSError:
            continue
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
