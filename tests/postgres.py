"""A PostgreSQL of the tests' own, from the system's package, on a socket in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SECONDS = 120


def programs() -> Path:
    """Where initdb and postgres are; Debian keeps them beside the path."""
    found = shutil.which("initdb")
    if found and Path(found).resolve().with_name("postgres").is_file():
        return Path(found).resolve().parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert places, "PostgreSQL is not installed: apt-get install postgresql (what `.ci/run` does)"
    return places[-1].parent


@contextmanager
def running() -> Iterator[str]:
    """Its address. It refuses to run as root, so then it runs as a user who may do nothing."""
    bin_ = programs()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    user: str | None = None
    if os.getuid() == 0:
        user = "nobody"
        found = pwd.getpwnam(user)
        os.chown(folder, found.pw_uid, found.pw_gid)
    data = folder / "data"
    environment = {**os.environ, "LC_ALL": "C", "HOME": str(folder)}
    try:
        subprocess.run(
            [bin_ / "initdb", "-D", data, "-U", "tester", "-A", "trust", "-N", "-E", "UTF8", "--no-locale"],
            user=user, env=environment, cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        # Not flushed to disk: what is tested is its SQL, not its disk.
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        server = subprocess.Popen([bin_ / "postgres", "-D", data, *options], user=user, env=environment, cwd=folder,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            _wait(bin_, folder)
            yield f"postgresql://tester@/postgres?host={folder}"
        finally:
            server.terminate()
            server.wait(timeout=_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(bin_: Path, folder: Path) -> None:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        if subprocess.run([bin_ / "pg_isready", "-h", folder], capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError("PostgreSQL did not start")
