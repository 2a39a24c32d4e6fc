"""Wheels from source, built in the box: a package's build script is foreign code and never runs outside."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allmend.box.owner import Operator
from allmend.errors import AllmendError, Refused
from allmend.locking import store

_CELL = """
import os, subprocess, sys, tarfile
os.environ["SOURCE_DATE_EPOCH"] = "315532800"
os.environ["SETUPTOOLS_SCM_PRETEND_VERSION"] = {scm!r}
source = {source!r}
if {tree}:
    os.mkdir("source")
    with tarfile.open(source) as archive:
        archive.extractall("source", filter="data")
    source = "./source"
done = subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", "outputs", source],
                      capture_output=True, text=True)
print(done.stderr[-3000:])
done.check_returncode()
"""
_SECONDS = 900.0


@dataclass(frozen=True)
class Built:
    """A wheel made here from a source."""

    file: str
    sha256: str

    @property
    def name(self) -> str:
        """Normalised name (PEP 503)."""
        return wheel_name(self.file)[0]

    @property
    def version(self) -> str:
        """The version the build gave it."""
        return wheel_name(self.file)[1]


def wheel_name(file: str) -> tuple[str, str]:
    """(name, version) of a wheel's file name; raises `Refused` where it is none."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name, version, _, _ = parse_wheel_filename(file)
    except (InvalidWheelFilename, ValueError):
        raise Refused(f"{file[:120]!r} is not the name of a wheel") from None
    return str(name), str(version)


def cached(key: object) -> Built | None:
    """A wheel that was built here before."""
    known = store.recall("built", key)
    if isinstance(known, dict) and store.has(str(known.get("sha256"))):
        return Built(str(known["file"]), str(known["sha256"]))
    return None


def wheel(source: Path, what: str, *, key: object, operator: Operator, tree: bool = False, commit: str = "") -> Built:
    """Build a wheel in a box of its own.

    Args:
        source: an sdist or archive; with `tree`, a tar file of the project folder itself.
        what: its name in messages.
        key: what the result is remembered by.

    Raises:
        Refused: the build failed; the message has its last words.
        Unavailable: this machine has no box.
    """
    known = cached(key)
    if known is not None:
        return known
    with tempfile.TemporaryDirectory(prefix="allmend-build-", dir=_reachable()) as name:
        folder = Path(name)
        folder.chmod(0o755)
        receipt, said = _boxed(folder, source, operator, tree=tree, commit=commit)
        made = sorted((folder / "out" / "outputs").glob("*.whl"))
        if receipt.ended != "finished" or not made:
            last = said.strip()[-600:] or receipt.ended_why
            raise Refused(
                f"{what} comes only as source, and building it in the box failed: {last}",
                hint="Pin a version that has a wheel for this Python, or leave the package out.",
            )
        wheel_name(made[0].name)
        digest, _ = store.add_file(made[0])
        store.remember("built", key, {"file": made[0].name, "sha256": digest})
        return Built(made[0].name, digest)


def _reachable() -> str | None:
    import os

    return "/var/tmp" if os.geteuid() == 0 and Path("/var/tmp").is_dir() else None


def _boxed(folder: Path, source: Path, operator: Operator, *, tree: bool, commit: str) -> tuple[Any, str]:
    from allmend.box import environment, levels, profiles
    from allmend.box.job import Job
    from allmend.box.run import run
    from allmend.box.settings import Settings
    from allmend.nouns.permissions import Permissions

    try:
        chosen = environment.of()
    except AllmendError:
        chosen = profiles.build("base", profiles.LISTS["base"], operator)
    level, why = levels.choose(None)
    permissions = Permissions.model_validate(
        {
            "files": {"read": [source.name], "write": str(folder / "out")},
            "limits": {"time": _SECONDS},
        }
    )
    (folder / source.name).write_bytes(source.read_bytes())
    scm = f"0.0.0+g{commit[:12]}" if commit else "0.0.0"
    cell = _CELL.format(scm=scm, source=source.name, tree=tree)
    notebook = {
        "cells": [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": [], "execution_count": None}],
        "metadata": {}, "nbformat": 4, "nbformat_minor": 4,
    }  # fmt: skip
    settings = Settings(
        permissions=permissions, environment=chosen, folder=folder, level=level, why=why, operator=operator
    )
    job = Job(
        notebook=notebook, path="build.ipynb", sha256="", settings=settings,
        executed=folder / "build.ipynb", receipt=folder / "receipt.json",
    )  # fmt: skip
    receipt = run(job)
    texts = [
        "".join(output.get("text", "")) for output in job.notebook["cells"][0].get("outputs", ())
        if output.get("output_type") == "stream"
    ]  # fmt: skip
    return receipt, "".join(texts)
