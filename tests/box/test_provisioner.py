"""Other programs get boxed kernels by a kernel spec alone: nbclient, papermill and JupyterLab's server, unchanged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket
from boxed_jobs import SOURCE

CELLS = [
    "import os\nprint('uid', os.getuid(), os.getcwd())",
    "x = 20",
    "print(x + 1)\ntry: print('GOT' + ' THROUGH', open('/etc/shadow').read())\nexcept OSError as e: print('stopped')",
    "import urllib.request\ntry: urllib.request.urlopen('http://evil.example/', timeout=5)\nexcept OSError as e: print(e)",
]


@pytest.fixture
def kernels(tmp_path: Path) -> dict[str, str]:
    """An environment in which Jupyter knows the kernel, as an installed allmend would make it."""
    info = tmp_path / "site" / "boxed-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: boxed\nVersion: 0\n")
    (info / "entry_points.txt").write_text(
        "[jupyter_client.kernel_provisioners]\nallmend = allmend.box.provisioner:BoxProvisioner\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": f"{SOURCE}{os.pathsep}{tmp_path / 'site'}",
        "JUPYTER_PATH": str(tmp_path / "jupyter"),
    }
    command = [
        sys.executable,
        "-m",
        "allmend.box.provisioner",
        str(tmp_path / "jupyter/kernels"),
        "--receipt",
        str(tmp_path / "receipt.json"),
    ]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return environment


def notebook(folder: Path) -> Path:
    cells = [
        {"cell_type": "code", "source": c, "metadata": {}, "outputs": [], "execution_count": None, "id": f"c{n}"}
        for n, c in enumerate(CELLS)
    ]
    cells[1]["metadata"] = {"tags": ["parameters"]}
    spec = {"kernelspec": {"name": "allmend", "display_name": "boxed", "language": "python"}}
    path = folder / "nb.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": spec, "nbformat": 4, "nbformat_minor": 5}))
    return path


def check(folder: Path, executed: Path, answer: str) -> None:
    text = executed.read_text()
    assert "/content" in text and answer in text and "stopped" in text and "GOT THROUGH" not in text
    receipt = json.loads((folder / "receipt.json").read_text())
    assert receipt["enforcement"]["level"] == "A"
    assert any(event["target"] == "evil.example:80" and event["verdict"] == "denied" for event in receipt["events"])


def test_nbclient(kernels: dict[str, str], tmp_path: Path) -> None:
    path = notebook(tmp_path)
    code = (
        "import sys, nbformat\nfrom nbclient import NotebookClient\nnb = nbformat.read(sys.argv[1], 4)\n"
        "NotebookClient(nb, kernel_name='allmend', timeout=60).execute()\nnbformat.write(nb, sys.argv[2])\n"
    )
    out = tmp_path / "out.ipynb"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(out)],
        env=kernels,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check(tmp_path, out, "21")


def test_a_kernel_whose_box_cannot_be_had_says_why(kernels: dict[str, str], tmp_path: Path) -> None:
    permissions = tmp_path / "much.toml"
    permissions.write_text("[limits]\ncpus = 4096\n")
    folder, receipt = tmp_path / "jupyter/kernels", tmp_path / "receipt.json"
    make = [sys.executable, "-m", "allmend.box.provisioner", str(folder), "--permissions", str(permissions)]
    subprocess.run([*make, "--receipt", str(receipt)], env=kernels, check=True, capture_output=True)
    code = (
        "import asyncio\nfrom jupyter_client import AsyncKernelManager\nasync def main():\n"
        " manager = AsyncKernelManager(kernel_name='allmend')\n"
        " try: await manager.start_kernel()\n"
        " except Exception as error: print(error)\n"
        " print('a kernel:', manager.has_kernel)\n await manager.cleanup_resources()\nasyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=kernels, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "the limit cpus cannot be kept" in done.stdout and "a kernel: False" in done.stdout
    assert not receipt.exists()  # nothing ran


def test_papermill(kernels: dict[str, str], tmp_path: Path) -> None:
    path = notebook(tmp_path)
    out = tmp_path / "out.ipynb"
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(path),
        str(out),
        "-p",
        "x",
        "41",
        "-k",
        "allmend",
        "--no-progress-bar",
    ]
    done = subprocess.run(command, env=kernels, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    check(tmp_path, out, "42")


@pytest.fixture
def server(kernels: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The server that JupyterLab is a page of, on the loopback; its address."""
    runtime = tmp_path / "runtime"
    options = {"port": 0, "token": "secret", "root_dir": tmp_path, "open_browser": False, "allow_root": True}
    command = [
        sys.executable,
        "-m",
        "jupyter_server",
        *(f"--ServerApp.{name}={value}" for name, value in options.items()),
    ]
    environment = {**kernels, "JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    said = (tmp_path / "server.log").open("w")
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + 60
        found: list[Path] = []
        while not found and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
            found = [path for path in runtime.glob("jpserver-*.json") if path.stat().st_size]
        assert found, (tmp_path / "server.log").read_text()[-3000:]
        yield f"http://127.0.0.1:{json.loads(found[0].read_text())['port']}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        said.close()


def ask(address: str, method: str = "GET", body: Any = None) -> Any:
    """One request to the server's REST interface."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(address, data, {"Authorization": "token secret"}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def execute(channel: websocket.WebSocket, code: str) -> str:
    """Run a cell as JupyterLab does; returns its text."""
    number = uuid.uuid4().hex
    header = {"msg_id": number, "msg_type": "execute_request", "session": "s", "username": "", "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    channel.send(json.dumps(message | {"buffers": []}))
    text = ""
    while True:
        answer = json.loads(channel.recv())
        if answer["parent_header"].get("msg_id") != number:
            continue
        text += answer["content"].get("text", "") if answer["msg_type"] == "stream" else ""
        text += "\n".join(answer["content"].get("traceback", [])) if answer["msg_type"] == "error" else ""
        if answer["msg_type"] == "status" and answer["content"]["execution_state"] == "idle":
            return text


def test_the_server_of_jupyterlab(server: str, tmp_path: Path) -> None:
    assert "allmend" in ask(f"{server}/api/kernelspecs")["kernelspecs"]
    kernel = ask(f"{server}/api/kernels", "POST", {"name": "allmend"})["id"]
    address = f"{server.replace('http', 'ws')}/api/kernels/{kernel}/channels?token=secret"
    channel = websocket.create_connection(address, timeout=60, http_no_proxy=["127.0.0.1"])
    try:
        text = "".join(execute(channel, cell) for cell in CELLS)
    finally:
        channel.close()
    assert "/content" in text and "21" in text and "stopped" in text and "GOT THROUGH" not in text
    again = ask(f"{server}/api/kernels/{kernel}/restart", "POST")
    assert again["id"] == kernel
    ask(f"{server}/api/kernels/{kernel}", "DELETE")
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    assert receipt["enforcement"]["level"] == "A" and receipt["ended"] == "finished"
