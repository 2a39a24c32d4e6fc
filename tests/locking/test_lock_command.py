"""The command line: what is printed where, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from world import World, notebook

from allmend.cli import run_command as command


def say(*words: str | Path) -> int:
    return command([str(word) for word in words])


def test_lock_check_diff_export_and_replay(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world.package("aaa", "1.0")
    world.file("http://files.test/x.bin", b"one")
    path = notebook(tmp_path / "nb.ipynb", "!pip install aaa", "!wget -q http://files.test/x.bin", "print(40 + 2)")
    assert say("lock", path, "--profile", "this") == 0
    shown = capsys.readouterr()
    assert "file      http://files.test/x.bin" in shown.out and "fetching" in shown.err
    assert say("lock", path, "--check") == 0
    world.file("http://files.test/x.bin", b"two", "Sat, 01 Apr 2023 12:00:00 GMT")
    capsys.readouterr()
    assert say("lock", path, "--check", "--upstream") == 13
    assert "changed upstream" in (shown := capsys.readouterr().out) and "since Sat, 01 Apr 2023" in shown
    assert say("lock", path, "--check", "--upstream", "--json") == 13
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "allmend.lock-report/1" and report["changes"][0]["since"].startswith("Sat, 01 Apr")
    assert say("run", path, "--locked", "--yes") == 0
    capsys.readouterr()
    assert say("runs", "replay", "last:run") == 0
    assert capsys.readouterr().out.startswith("Same: ")
    before = tmp_path / "before.lock.toml"
    before.write_bytes((tmp_path / "nb.lock.toml").read_bytes())
    assert say("lock", path, "--update", "http://files.test/x.bin") == 0
    capsys.readouterr()
    assert say("lock", path, "--diff", before) == 0
    assert "file http://files.test/x.bin: 3 bytes" in capsys.readouterr().out
    assert say("runs", "replay", "last:run") == 0  # the file is another, what is printed is not
    assert say("lock", path, "--export", tmp_path / "requirements.txt") == 0
    assert say("lock", path, "--from", before) == 0 and say("lock", path, "--check") == 0
    data = json.loads(path.read_text())
    data["cells"][0]["source"] = "!pip install aaa bbb"
    path.write_text(json.dumps(data))
    capsys.readouterr()
    assert say("lock", path, "--check") == 13
    assert "the notebook now asks for: pip install bbb" in capsys.readouterr().out
    assert say("run", path, "--locked", "--yes") == 8


def test_errors_have_their_codes(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert say("lock", tmp_path / "none.ipynb") == 5
    path = notebook(tmp_path / "nb.ipynb", "!pip install nothing-here")
    assert say("lock", path, "--profile", "this") == 5
    assert "cell 0" in capsys.readouterr().err
    assert say("lock", path, "--check") == 5
    assert say("lock", path, "--as-of", "yesterday") == 2
    assert say("lock", path, "--profile", "coolab") == 2
    (tmp_path / "bad.ipynb").write_text("{")
    assert say("lock", tmp_path / "bad.ipynb") == 4
