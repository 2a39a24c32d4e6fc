"""Which packages and which Python a notebook starts with, and the refusal when they are not to be had."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from allmend.box import document, interpreters, named, profiles
from allmend.box.document import Document
from allmend.errors import Unavailable, UsageError

OWN = f"3.{sys.version_info[1]}"


def read(folder: Path, *cells: str, **metadata: Any) -> Document:
    made = [{"cell_type": "code", "source": c, "metadata": {}, "outputs": [], "execution_count": None} for c in cells]
    path = folder / "nb.ipynb"
    path.write_text(json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}))
    return document.read(path)


def test_auto_is_this_environment_when_it_has_what_is_imported(tmp_path: Path) -> None:
    choice = profiles.choose("auto", read(tmp_path, "import json, pydantic\nfrom rich.text import Text"))
    assert (choice.profile, choice.python) == ("this", None)


def test_auto_is_colab_when_that_has_what_this_environment_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "_lacking", lambda modules, chosen: modules & {"sklearn", "strange"})
    choice = profiles.choose("auto", read(tmp_path, "import sklearn.svm", "!ls\nimport strange"))
    assert choice.profile == "colab" and "lacks sklearn" in choice.why
    choice = profiles.choose("auto", read(tmp_path, "import strange"))
    assert choice.profile == "this" and "strange is not installed here" in choice.why


def test_what_it_installs_tries_or_brings_along_is_not_lacking(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("")
    cells = [
        "import helper, made_up_one",
        "try:\n    import made_up_two\nexcept ImportError: pass",
        "import google.colab",
    ]
    choice = profiles.choose("auto", read(tmp_path, *cells), installs=["made-up-one"])
    assert "has what the notebook imports" in choice.why


@pytest.mark.parametrize("name", ["ir", "julia-1.9", "python2"])
def test_another_language_is_refused(tmp_path: Path, name: str) -> None:
    kernel = {"name": name, "language": {"ir": "R", "python2": "python"}.get(name, "julia")}
    with pytest.raises(Unavailable, match="only Python 3 kernels"):
        profiles.choose("auto", read(tmp_path, "1", kernelspec=kernel))


def test_an_interpreter_that_is_missing_is_a_clear_refusal(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no Python 3\.88 on this machine \(there is: .*" + OWN):
        profiles.choose("auto", read(tmp_path, "1"), "3.88")
    with pytest.raises(Unavailable, match=r"no Python 3\.88"):
        profiles.choose("auto", read(tmp_path, "1", kernelspec={"name": "python3.88", "language": "python"}))
    with pytest.raises(Unavailable, match="too old"):
        profiles.choose("auto", read(tmp_path, "1", kernelspec={"name": "python37", "language": "python"}))
    with pytest.raises(UsageError):
        profiles.choose("auto", read(tmp_path, "1"), "three")
    assert profiles.choose("auto", read(tmp_path, "1"), OWN).profile == "this"
    assert interpreters.wanted(read(tmp_path, "1", kernelspec={"name": "python3", "language": "python"})) is None


def test_another_interpreter_is_found_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    other = programs / "python3.77"
    other.write_text("#!/bin/sh\necho 3.77\n")
    other.chmod(0o755)
    broken = programs / "python3.78"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    choice = profiles.choose("auto", read(tmp_path, "1"), "3.77")
    assert (choice.profile, choice.python) == ("base", str(other))
    assert profiles.choose("auto", read(tmp_path, "import torch"), "3.77").profile == "colab"
    with pytest.raises(Unavailable, match="this environment has Python"):
        profiles.choose("this", read(tmp_path, "1"), "3.77")
    with pytest.raises(Unavailable, match=r"no Python 3\.78"):
        interpreters.find("3.78")


def test_files_beside_a_notebook_are_named_and_no_others(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    (home / "outputs").mkdir()
    for name in ("a.csv", "data/b.txt", "made.csv", ".env", "outputs/c.txt", "helper.py"):
        (home / name).write_text("x")
    (tmp_path / "outside.txt").write_text("x")
    (home / "link").symlink_to(tmp_path / "outside.txt")
    source = (
        "import helper\nopen('a.csv'); open('data/b.txt'); open('.env'); open('../outside.txt'); open('link')\n"
        f"open('{home}/a.csv'); open('outputs/c.txt'); df.to_csv('made.csv'); open('nb.ipynb'); open('nowhere.txt')"
    )
    assert named.files(read(home, source)) == ["a.csv", "data/b.txt", "helper.py"]
    error = "FileNotFoundError: [Errno 2] No such file or directory: '{}'"
    assert named.missing_file(error.format("a.csv"), home, "nb.ipynb") == "a.csv"
    assert named.missing_file(error.format("/content/data/b.txt"), home, "nb.ipynb") == "data/b.txt"
    assert named.missing_file("ModuleNotFoundError: No module named 'helper'", home, "nb.ipynb") == "helper.py"
    for name in ("../outside.txt", ".env", "link", f"{home}/a.csv", "a.csv\\x1b[2J", "nb.ipynb", "/etc/passwd"):
        assert named.missing_file(error.format(name), home, "nb.ipynb") is None


def test_choosing_runs_nothing_that_lies_beside_the_notebook(tmp_path: Path) -> None:
    """Neither a module the notebook imports nor one with the name of a module that Python itself imports."""
    beside, elsewhere = tmp_path / "beside", tmp_path / "elsewhere"
    beside.mkdir()
    elsewhere.mkdir()
    for name in ("trap", "json", "sysconfig", "site", "sitecustomize", "importlib", "pip", "uv", "ipykernel"):
        (beside / f"{name}.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'a').write({name!r})")
    read(beside, "import trap, trap.deeper, json, pip")
    script = elsewhere / "choose.py"
    script.write_text(
        "import sys; from pathlib import Path; from allmend.box import document, owner, profiles\n"
        "choice = profiles.choose('auto', document.read(Path('nb.ipynb')))\n"
        "print(profiles.environment(choice, owner.read()).profile)"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=beside, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "this"
    assert not (tmp_path / "sprung").exists()
