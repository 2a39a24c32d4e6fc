"""The server is killed at random points of commits; what is found afterwards is the old state or the new one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from test_rules import lines, small

KILLS = int(os.environ.get("ALLMEND_TEST_KILLS", "5"))


@contextmanager
def process(folder: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """`allmend hub` as a person starts it: the process, its address, the first key (empty later)."""
    environment = {**os.environ, "ALLMEND_HOME": str(folder / "home")}
    environment.pop("ALLMEND_DATABASE", None)
    command = [sys.executable, "-m", "allmend", "hub", "--store", str(folder / "store"), "--port", str(port),
               "--no-inspect"]  # fmt: skip
    made = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        url = token = ""
        assert made.stdout is not None
        said = []
        for line in made.stdout:
            said.append(line)
            if line.startswith("export HF_ENDPOINT="):
                url = line.strip().partition("=")[2]
            if line.startswith("export HF_TOKEN="):
                token = line.strip().partition("=")[2]
                break
        assert url, "".join(said)
        yield made, url, token
    finally:
        made.kill()
        made.wait()
        if made.stdout is not None:
            made.stdout.close()


def test_a_killed_server_leaves_the_old_or_the_new_state(tmp_path: Path) -> None:
    choose = random.Random(7)
    key = ""
    acknowledged: dict[str, bytes] = {}
    for round_ in range(KILLS + 1):
        with process(tmp_path) as (made, url, token):
            key = key or token
            head = {"authorization": f"Bearer {key}"}
            with httpx.Client(base_url=url, headers=head, timeout=120) as client:
                if round_ == 0:
                    client.post("/api/repos/create", json={"name": "kept"})
                tree = client.get("/api/models/admin/kept/tree/main", params={"recursive": True}).json()
                there = {each["path"] for each in tree if each["type"] == "file"} - {".gitattributes"}
                # Every commit that was answered is there; each that is there is whole.
                assert set(acknowledged) <= there
                for path in there:
                    assert client.get(f"/admin/kept/resolve/main/{path}").content == content(path), path
                groups = {path.partition("/")[0] for path in there}
                assert there == {f"{group}/{name}.txt" for group in groups for name in "abc"}
                assert len(client.get("/api/models/admin/kept/commits/main").json()) >= min(50, len(groups) + 1)
            if round_ == KILLS:
                made.send_signal(signal.SIGTERM)
                assert made.wait(timeout=60) == 130
                return
            stop = threading.Timer(0.05 + choose.random() * 0.5, made.kill)
            stop.start()
            push(url, head, round_, acknowledged)
            stop.join()


def content(path: str) -> bytes:
    """What a file of the test holds."""
    return path.encode() * 50


def push(url: str, head: dict[str, str], round_: int, acknowledged: dict[str, bytes]) -> None:
    """Commit three files at a time until the server is gone."""
    with httpx.Client(base_url=url, headers=head, timeout=120) as client:
        for number in range(10_000):
            paths = [f"{round_}-{number}/{name}.txt" for name in "abc"]
            body = lines(*(small(path, content(path)) for path in paths))
            try:
                answer = client.post("/api/models/admin/kept/commit/main", content=body)
            except httpx.HTTPError:
                return
            if answer.status_code == 200:
                acknowledged.update(dict.fromkeys(paths, b""))
            time.sleep(0.001)


@pytest.mark.parametrize("flag", ["--port", "--database"])
def test_what_cannot_be_used_is_said(tmp_path: Path, flag: str) -> None:
    value = {"--port": "99999", "--database": "mysql://x"}[flag]
    command = [sys.executable, "-m", "allmend", "hub", "--store", str(tmp_path / "s"), flag, value]
    environment = {**os.environ, "ALLMEND_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode in (2, 9) and "Traceback" not in done.stderr
