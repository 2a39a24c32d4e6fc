"""One level out: files of clones beside the notebook, in the cache, and fetched with `--follow`; nothing of them runs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from allmend.nouns.plan import Plan
from allmend.verbs.plan import plan
from listening import running

FILES = {
    "run.py": "import os\nos.system('wget https://inner.example/w.bin')\nexec(open('run.py').read())\n",
    "setup.sh": "pip install inner-tool\nbash setup.sh\n",
    "requirements.txt": "# pins\nflask==2.0  # web\n-r more.txt\n",
    "lib/__init__.py": "import requests\nrequests.post('https://collect.example/x', json={})\n",
    "demo.ipynb": json.dumps({"cells": [{"cell_type": "code", "source": "!pip install from-notebook", "metadata": {}}],
                              "metadata": {}, "nbformat": 4}),
    "tool.rb": "puts 1\n",
}  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[str]:
    """A repository behind a plain web server, as git's dumb protocol reads it."""
    work, served = tmp_path / "work", tmp_path / "served"
    for name, text in FILES.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    (work / ".git-hooks-marker").write_text("")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*words: str, folder: Path = work) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words], cwd=folder, check=True,
                       env=environment, capture_output=True)  # fmt: skip

    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    served.mkdir()
    git("clone", "-q", "--bare", str(work), "tool.git", folder=served)
    git("update-server-info", folder=served / "tool.git")
    with running(ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))) as web:
        yield f"http://127.0.0.1:{web.server_port}/tool.git"


def notebook(folder: Path, *sources: str) -> Path:
    cells = [{"cell_type": "code", "source": source, "metadata": {}, "outputs": []} for source in sources]
    path = folder / "n.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    return path


def via(found: Plan) -> dict[str, str]:
    return {effect.target: str(effect.detail["via"]) for effect in found.effects if "via" in effect.detail}


SOURCES = ("!python tool/run.py", "%run tool/demo.ipynb", "!pip install -r tool/requirements.txt", "!bash tool/setup.sh",
           "import sys\nsys.path.append('tool')\nimport lib", "!ruby tool/tool.rb")  # fmt: skip


def test_follow_fetches_a_repository_and_reads_scripts_modules_and_requirements(tmp_path: Path, remote: str) -> None:
    path = notebook(tmp_path, f"!git clone {remote} tool", *SOURCES)
    assert via(plan(path)) == {}
    found = plan(path, follow=True)
    assert via(found) == {
        "https://inner.example/w.bin": "tool/run.py",
        "wget": "tool/run.py",
        "open('run.py').read()": "tool/run.py",
        "pip:from-notebook": "tool/demo.ipynb",
        "pip:flask": "tool/requirements.txt",
        "pip:-r more.txt": "tool/requirements.txt",
        "pip:inner-tool": "tool/setup.sh",
        "collect.example": "tool/lib/__init__.py",
    }
    assert [item.reason for item in found.unread] == [
        "tool/tool.rb is code from outside in a language that is not followed; it was not read"
    ]
    flask = next(effect for effect in found.effects if effect.target == "pip:flask")
    assert flask.detail["pinned"] is True and flask.cell == 3


def test_what_was_fetched_once_is_read_again_without_the_network(tmp_path: Path, remote: str, own_home: Path) -> None:
    path = notebook(tmp_path, f"!git clone {remote} tool", "!python tool/run.py")
    plan(path, follow=True)
    [kept] = (own_home / "cache" / "clones").iterdir()
    assert kept.name.startswith("tool.git-") or kept.name.startswith("tool-")
    assert "https://inner.example/w.bin" in via(plan(path))


def test_a_repository_that_cannot_be_had_is_named_as_unread(tmp_path: Path) -> None:
    path = notebook(tmp_path, "!git clone http://127.0.0.1:9/none tool", "!python tool/run.py")
    found = plan(path, follow=True)
    assert [item.reason for item in found.unread] == ["tool/run.py is code from outside; it was not read"]


def test_only_addresses_of_the_web_are_fetched(tmp_path: Path, own_home: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "run.py").write_text("import os\nos.system('wget https://inner.example/w')\n")
    sources = [f"!git clone {url} tool{n}\n!python tool{n}/run.py" for n, url in
               enumerate((f"file://{tmp_path}/secret", "ext::sh -c true", "ssh://h.example/x", "--upload-pack=touch"))]  # fmt: skip
    assert via(plan(notebook(tmp_path, *sources), follow=True)) == {}
    assert not (own_home / "cache").exists()


def test_loops_of_links_and_scripts_end(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.mkdir()
    (tool / "a.sh").write_text("bash a.sh\npip install once\n")
    (tool / "round").symlink_to(tool / "round")
    (tool / "up").symlink_to(tool)
    path = notebook(tmp_path, "!git clone https://h.example/o/tool", "!bash tool/a.sh", "!bash tool/round/b.sh",
                    "!bash tool/up/up/up/a.sh")  # fmt: skip
    found = plan(path)
    assert [effect.target for effect in found.effects if effect.kind == "install"].count("pip:once") <= 2
    assert any("tool/round/b.sh" in item.reason for item in found.unread)


def test_more_files_than_are_followed_are_named(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.mkdir()
    for number in range(60):
        (tool / f"s{number}.sh").write_text(f"pip install p{number}\n")
    lines = "\n".join(f"!bash tool/s{number}.sh" for number in range(60))
    found = plan(notebook(tmp_path, "!git clone https://h.example/o/tool", lines))
    assert found.totals["install"] == 50
    assert sum("more than 50 files" in item.reason for item in found.unread) == 10
