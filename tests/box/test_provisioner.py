"""Other programs get boxed kernels by a kernel spec alone: nbclient and papermill, unchanged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
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
