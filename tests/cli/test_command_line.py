"""The command line as a whole: light, with codes that are documented and errors in words."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import IO, Any

import pytest

import allmend
from allmend import errors
from allmend.cli.app import COMMANDS

ROOT = Path(__file__).parents[2]


def run(home: Path, *words: str, said: str | None = None, **more: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "allmend", *words],
        input=said,
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "ALLMEND_HOME": str(home), **more},
        check=False,
    )


def test_help_is_light(tmp_path: Path) -> None:
    code = (
        "import sys, io, contextlib\n"
        "from allmend.cli import run_command as run\n"
        "with contextlib.redirect_stdout(io.StringIO()) as shown: assert run(['--help']) == 0\n"
        "assert 'tune' in shown.getvalue()\n"
        "heavy = {'torch', 'transformers', 'numpy', 'scipy', 'sqlalchemy', 'alembic', 'pydantic', 'httpx', 'fastapi',"
        " 'uvicorn', 'jinja2', 'pyarrow', 'unearth', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=180)
    assert answer.stdout.strip() == "[]"
    assert not (tmp_path / "home").exists()


def test_importing_allmend_imports_next_to_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import allmend\n"
        "print(len({name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=180)
    assert int(answer.stdout) == 1


def test_help_takes_a_fifth_of_a_second() -> None:
    """As processor time, beside what Python itself takes: other work on the machine must not decide this test."""

    def seconds(*words: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], capture_output=True, check=True, timeout=180)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    took = [seconds("-c", "from allmend.cli import run_command as run; run(['--help'])") for _ in range(7)]
    bare = [seconds("-c", "pass") for _ in range(7)]
    # 0.18 s on the machine that this was written on, where Python alone takes 0.015 s; more beside other work.
    assert statistics.median(took) < max(0.2, 16 * statistics.median(bare)), (took, bare)


def test_the_exit_codes_in_the_docs_are_those_of_the_errors() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+) \|$", (ROOT / "docs/exit-codes.md").read_text(), re.MULTILINE)
    documented = {name: (int(code), words.replace("`", "")) for code, name, words in rows}
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = {kind.__name__: kind for kind in classes if issubclass(kind, errors.AllmendError)}
    del kinds["AllmendError"]
    assert {name: code for name, (code, _) in documented.items()} == {
        name: kind.exit_code for name, kind in kinds.items()
    }
    assert len({code for code, _ in documented.values()}) == len(documented)
    # The tree in the docstring says the same.
    for name, (code, words) in documented.items():
        assert re.search(rf"{name} +{code} +{re.escape(words)}", (errors.__doc__ or "").replace("`", "")), name


def test_public_names_are_sorted_and_all_there() -> None:
    assert list(allmend.__all__) == sorted(allmend.__all__)
    for name in allmend.__all__:
        assert getattr(allmend, name) is not None
    assert set(allmend.__all__) <= set(dir(allmend))
    with pytest.raises(AttributeError, match="nonsense"):
        allmend.nonsense


def test_every_room_exports_what_it_says() -> None:
    import importlib
    import pkgutil

    seen = 0
    for info in pkgutil.walk_packages(allmend.__path__, "allmend."):
        # Migrations run under Alembic, the entry point runs the program.
        if ".migrations" in info.name or info.name == "allmend.__main__":
            continue
        module = importlib.import_module(info.name)
        names = getattr(module, "__all__", ())
        assert sorted(names) == sorted(set(names))
        for name in names:
            assert getattr(module, name) is not None, f"{info.name}.{name}"
            seen += 1
    assert seen > 40


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads(tmp_path: Path, name: str) -> None:
    answer = run(tmp_path, name, "--help", COLUMNS="300")
    assert answer.returncode == 0, answer.stderr
    assert "Usage" in answer.stdout
    # A setting is named, never told by its place: a stray word must not become one.
    assert not re.search(r"[A-Z] +--[a-z]", answer.stdout), answer.stdout


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("tune", "x.csv", "--learningrate", "3"), "--learning-rate"),
        (("tune", "x.csv", "--buget", "3m"), "--budget"),
        (("verdict", "last", "--fre-text-rows", "3"), "--free-text-rows"),
        (("serve", "x", "--poort", "3"), "--port"),
        (("models", "--jsn"), "--json"),
        (("doctr",), "doctor"),
        (("data", "chek"), "check"),
    ],
)
def test_what_is_misspelt_is_told_the_nearest(tmp_path: Path, words: tuple[str, ...], wanted: str) -> None:
    answer = run(tmp_path, *words)
    assert answer.returncode == 2, answer.stderr
    assert wanted in answer.stderr
    assert answer.stderr.startswith("error: ") and "Traceback" not in answer.stderr and answer.stdout == ""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("tune",), 2, "DATA"),
        (("tune", "x.csv", "gemma-3-270m"), 2, "has no place for 'gemma-3-270m'"),
        (("keys", "create", "Anna", "60"), 2, "has no place for '60'"),
        (("tune", "x.csv", "--rank", "banana"), 2, "--rank"),
        (("tune", "x.csv", "--rank", "0"), 2, "--rank"),
        (("tune", "x.csv", "--budget", "soon"), 2, "15m"),
        (("tune", "x.csv", "--budget", "0s"), 2, "more than zero"),
        (("tune", "x.csv", "--model", "gemma-3-270n"), 5, "gemma-3-270m"),
        (("tune", "x.csv", "--model", "./nowhere"), 5, "nowhere"),
        (("verdict", "last"), 5, "no runs yet"),
        (("runs", "show", "abc"), 5, "no runs yet"),
        (("chat", "gemma-3-270n"), 5, "gemma-3-270m"),
    ],
)
def test_what_is_wrong_is_told_with_its_code(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    answer = run(tmp_path, *words)
    assert answer.returncode == code, answer.stderr
    assert said in answer.stderr and "Traceback" not in answer.stderr


def test_debug_shows_the_traceback_and_keeps_the_code(tmp_path: Path) -> None:
    answer = run(tmp_path, "tune", "x.csv", "--model", "./nowhere", "--debug")
    assert answer.returncode == 5
    assert "Traceback" in answer.stderr and "reference.py" in answer.stderr
    assert "error: there is no model at ./nowhere" in answer.stderr


def test_results_and_notes_go_apart(tmp_path: Path) -> None:
    import json

    for words in (("models", "--json"), ("doctor", "--json"), ("runs", "--json")):
        answer = run(tmp_path, *words)
        assert answer.returncode == 0, answer.stderr
        json.loads(answer.stdout)
    shown = run(tmp_path, "models").stdout
    assert "gemma-3-270m" in shown and "Gemma Terms" in shown and "no" in shown
    assert "cores" in run(tmp_path, "doctor").stdout


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m allmend doctor | true; exit ${{PIPESTATUS[0]}}"
    answer = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "ALLMEND_HOME": str(tmp_path)},
        check=False,
    )
    assert answer.returncode in (0, 120) and "Traceback" not in answer.stderr


def left_in(pipe: IO[str]) -> int:
    """Bytes that were written into a pipe and not read yet."""
    count = bytearray(4)
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_ends_with_130_in_words(tmp_path: Path, number: int) -> None:
    """A command that waits for its rows is told to stop."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from allmend.cli import main; main(['data', 'check', '-'])"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ALLMEND_HOME": str(tmp_path)},
    )
    assert process.stdin is not None
    process.stdin.write('{"prompt": ')
    process.stdin.flush()
    until = time.monotonic() + 120
    while left_in(process.stdin) and time.monotonic() < until:  # It waits for the rest as soon as it has read this.
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Stopped" in said and "Traceback" not in said


def test_a_misspelt_member_of_a_group_names_the_nearest(tmp_path: Path) -> None:
    answer = run(tmp_path, "runs", "shwo")
    assert answer.returncode == 2
    assert "'shwo'" in answer.stderr and "'show'" in answer.stderr


@pytest.mark.parametrize(
    ("missing", "words", "extra"),
    [("torch", ["tune", "x.csv"], "tune"), ("torch", ["verdict", "x"], "tune"), ("uvicorn", ["serve", "x"], "serve")],
)
def test_what_an_extra_lacks_is_told_with_what_to_install(tmp_path, missing, words, extra) -> None:
    # None in sys.modules makes an import fail as if the module were not installed.
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"from allmend.cli import run_command; sys.exit(run_command({words!r}))"
    )
    environment = {**os.environ, "ALLMEND_HOME": str(tmp_path)}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=180)
    assert answer.returncode == 9, answer.stderr
    assert f"allmend[{extra}]" in answer.stderr and "Traceback" not in answer.stderr
