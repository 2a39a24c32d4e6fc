"""What an extra brings is enough: each verb in an environment that holds its extra's packages and no others."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import httpx
import pytest

from allmend.cli.extras import OF_VERB
from allmend.models.index import default_index
from installed import environment

WHEEL = """
import zipfile
with zipfile.ZipFile("seen-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("seen.py", "word = 'it is ' + 'here'")
    wheel.writestr("seen-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: seen\\nVersion: 1.0\\n")
    wheel.writestr("seen-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr("seen-1.0.dist-info/RECORD", "")
"""
NOTEBOOK = '# %%\nname = "you"  # @param {type:"string"}\n# %%\nprint("hello", name)\n'


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment without extras."""
    return environment(tmp_path_factory.mktemp("bare") / "venv")


def allmend(python: Path, *words: str, home: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    own = {"ALLMEND_HOME": str(home)} if home else {}
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run([str(python), "-m", "allmend", *words], env={**environ, **own, **more}, capture_output=True,
                          text=True, timeout=280)  # fmt: skip


def test_the_base_plans_and_runs_a_notebook_in_the_box(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "nb.py").write_text(NOTEBOOK)
    planned = allmend(bare, "plan", str(tmp_path / "nb.py"), "--json", home=tmp_path / "home")
    assert planned.returncode == 0 and json.loads(planned.stdout)["parameters"], planned.stderr
    ran = allmend(bare, "run", str(tmp_path / "nb.py"), "--yes", "--json", home=tmp_path / "home")
    assert ran.returncode == 0, ran.stderr
    told = allmend(bare, "doctor", home=tmp_path / "home")
    assert told.returncode == 0 and "allmend[tune]" in told.stdout, told.stderr


def test_a_notebook_installs_where_the_environment_has_no_pip(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "nb.py").write_text(f"# %%\n{WHEEL}# %%\n!pip install -q ./seen-1.0-py3-none-any.whl\n"
                                    "# %%\n%pip show -q seen\n# %%\nimport seen\nprint(seen.word)\n")  # fmt: skip
    ran = allmend(bare, "run", str(tmp_path / "nb.py"), "--yes", "--json", home=tmp_path / "home")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "it is here" in ran.stdout + ran.stderr and "externally" not in ran.stdout + ran.stderr


def test_the_package_index_is_known_without_pip(bare: Path, tmp_path: Path) -> None:
    """uv makes environments that have no pip."""
    asked = "from allmend.models.index import default_index as d; import sys; print(d(), 'pip' in sys.modules)"
    done = subprocess.run([str(bare), "-c", asked], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert done.stdout.split() == [default_index(), "False"], done.stderr


@pytest.mark.parametrize(
    ("line", "extra"),
    [("tour", "serve"), ("data check rows.csv", "tune"), ("tune rows.csv", "tune"), ("ship last", "ship"),
     ("chat gemma-3-270m", "serve"), ("serve gemma-3-270m", "serve"), ("app nb.py", "apps"), ("hub", "hub"),
     ("index docs", "documents"), ("benchmark last --task x", "benchmarks"), ("verdict last", "tune")],
)  # fmt: skip
def test_a_missing_extra_is_named_and_nothing_fetched(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, extra: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("prompt,completion\na,b\n")
    (tmp_path / "nb.py").write_text(NOTEBOOK)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "bees.txt").write_text("Bees dance.")
    done = allmend(bare, *line.split(), home=tmp_path / "home")
    assert done.returncode == 9 and f"pip install 'allmend[{extra}]'" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not list((tmp_path / "home").glob("models/*/*"))


def test_every_verb_that_needs_an_extra_is_told_of(bare: Path) -> None:
    """A verb whose modules import without extras, or whose extra is named."""
    from allmend.cli.app import COMMANDS

    assert set(OF_VERB) <= set(COMMANDS)
    for verb in COMMANDS.keys() - OF_VERB.keys():
        done = allmend(bare, verb, "--help")
        assert done.returncode == 0, (verb, done.stderr)


@pytest.mark.parametrize(("extra", "words", "ready"), [
    ("apps", ["app", "nb.py", "--yes"], "/"), ("hub", ["hub"], "/api/models"),
])  # fmt: skip
def test_a_server_answers_with_its_extra_alone(tmp_path: Path, extra: str, words: list[str], ready: str) -> None:
    python = environment(tmp_path / "venv", extra)
    (tmp_path / "nb.py").write_text(NOTEBOOK)
    environ = {**os.environ, "PYTHONPATH": "", "ALLMEND_HOME": str(tmp_path / "home")}
    server = subprocess.Popen([str(python), "-m", "allmend", *words, "--port", "0"], cwd=tmp_path, env=environ,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    try:
        assert server.stdout is not None
        said = ""
        while "http://127.0.0.1:" not in said:
            line = server.stdout.readline()
            assert line, said
            said += line
        url = "http://127.0.0.1:" + said.split("http://127.0.0.1:")[1].split("/")[0].split()[0]
        assert httpx.get(url + ready, timeout=60).status_code == 200
    finally:
        server.terminate()
        server.communicate(timeout=60)
