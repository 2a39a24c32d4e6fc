"""What the hub's figures share: servers and clients in processes of their own, and how a figure is written."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
SECRET = b"measured only, on loopback only!"
PACKAGES = ("hf_xet", "obstore", "blake3", "lz4", "fastapi", "uvicorn", "httptools", "numpy")


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for everything a measurement writes; gone afterwards."""
    place = Path(tempfile.mkdtemp(prefix="allmend-hub-", dir=os.environ.get("BENCH_SCRATCH")))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def server(place: Path, kind: str = "store", *arguments: str) -> Iterator[tuple[str, int]]:
    """A server of `kind` in a process of its own: its address and its process's id."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(256)
    environment = os.environ | {"ALLMEND_HOME": str(place / "home"), "OMP_NUM_THREADS": "1"}
    (place / "home").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / "servers.py"), kind, str(listening.fileno()), str(place), *arguments]
    child = subprocess.Popen(command, pass_fds=[listening.fileno()], env=environment)
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        _wait(url)
        yield url, child.pid
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(30)
        listening.close()


def _wait(url: str) -> None:
    import httpx

    for _ in range(600):
        try:
            httpx.post(f"{url}/v1/telemetry", content=b"{}", timeout=2)
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


_CLIENT = """
import json, sys, time, hf_xet
work = json.loads(sys.argv[1])
session = hf_xet.XetSession()
begin = time.perf_counter()
options = dict(endpoint=work["url"], token=work["token"], token_expiry_unix_secs=work["expires"])
if work["upload"]:
    with session.new_upload_commit(**options) as commit:
        for path in work["upload"]: commit.start_upload_file(path)
else:
    with session.new_file_download_group(**options) as group:
        for xet, size, path in work["download"]: group.start_download_file(hf_xet.XetFileInfo(xet, size), path)
print(time.perf_counter() - begin)
"""


def client(url: str, cache: Path, *, upload: list[str] | None = None, download: list[Any] | None = None) -> float:
    """The stock client (hf_xet) in a process of its own, with a cache of its own; its seconds."""
    from allmend.hub.cas import CasTokens

    token, expires = CasTokens(SECRET, seconds=7200).mint("bench/hub", "write")
    work = {"url": url, "token": token, "expires": expires, "upload": upload, "download": download}
    environment = os.environ | {"HF_XET_CACHE": str(cache), "HF_HOME": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", _CLIENT, json.dumps(work)], env=environment, check=True, capture_output=True, text=True
    )
    shutil.rmtree(cache, ignore_errors=True)
    return float(done.stdout.split()[-1])


def peak(pid: int) -> float:
    """The most memory a process has held, in MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


def spent(pid: int) -> float:
    """Processor seconds of a process so far, its own and the system's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def asked(url: str) -> dict[str, int]:
    """Bytes that came in the bodies of requests since the last time, by kind of request."""
    import httpx

    return dict(httpx.get(f"{url}/asked").json())


def noise(path: Path, size: int, seed: int) -> Path:
    """A file of random bytes."""
    import numpy as np

    generator = np.random.default_rng(seed)
    with path.open("wb") as stream:
        for at in range(0, size, 1 << 24):
            stream.write(generator.bytes(min(1 << 24, size - at)))
    return path


def write(name: str, result: dict[str, Any]) -> None:
    """Write `NAME.json` beside the scripts, with machine, versions and command."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    about = {
        "command": " ".join(["python", f"bench/hub/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "machine": {"processor": model.partition(":")[2].strip(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }
    text = json.dumps(result | about, indent=2) + "\n"
    (HERE / f"{name}.json").write_text(text)
    print(text)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def rounds(text: str) -> argparse.Namespace:
    """The flags that every measurement takes."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=400)
    return parser.parse_args()


def middle(values: list[float]) -> float:
    """The median, rounded."""
    return round(median(values), 4)
