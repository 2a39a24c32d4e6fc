"""Links to pages that show notebooks, and fetching from a server on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from allmend.errors import FetchError, InputError, NotFound
from allmend.planning.links import raw
from allmend.verbs.plan import plan
from listening import running

CELL = {"cell_type": "code", "source": "!pip install seen", "metadata": {}}
NOTEBOOK = json.dumps({"cells": [CELL], "metadata": {}, "nbformat": 4}).encode()
INFO = json.dumps({
    "sha": "abc", "siblings": [{"rfilename": "config.json", "size": 2}, {"rfilename": "model.bin", "size": 1000},
                               {"rfilename": "modeling_x.py", "size": 5}],
    "safetensors": {"total": 1_000_000},
}).encode()  # fmt: skip
CONFIG = json.dumps({"auto_map": {"AutoModel": "modeling_x.X"}}).encode()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers = {
            "/a.ipynb": NOTEBOOK,
            "/api/models/org/x/revision/main": INFO,
            "/org/x/resolve/abc/config.json": CONFIG,
        }
        body = answers.get(self.path.partition("?")[0])
        self.send_response(200 if body is not None else 404)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    with running(HTTPServer(("127.0.0.1", 0), Handler)) as web:
        yield f"http://127.0.0.1:{web.server_port}"


@pytest.mark.parametrize(
    ("link", "address"),
    [
        ("https://github.com/o/r/blob/main/a/b.ipynb", "https://raw.githubusercontent.com/o/r/main/a/b.ipynb"),
        (
            "https://colab.research.google.com/github/o/r/blob/v1/b.ipynb",
            "https://raw.githubusercontent.com/o/r/v1/b.ipynb",
        ),
        ("https://gist.github.com/me/0123abcd", "https://gist.githubusercontent.com/me/0123abcd/raw"),
        ("https://colab.research.google.com/drive/1AbC_d", "https://drive.google.com/uc?export=download&id=1AbC_d"),
        ("https://huggingface.co/o/m/blob/main/a.ipynb", "https://huggingface.co/o/m/resolve/main/a.ipynb"),
        ("https://files.example/a.ipynb", "https://files.example/a.ipynb"),
    ],
)
def test_the_file_behind_a_page(link: str, address: str) -> None:
    assert raw(link) == address


def test_a_whole_repository_is_not_one_notebook() -> None:
    with pytest.raises(InputError, match="repository"):
        raw("https://github.com/o/r")


def test_a_link_is_fetched_and_planned(server: str) -> None:
    found = plan(f"{server}/a.ipynb")
    assert [(e.kind, e.target) for e in found.effects] == [("install", "pip:seen")]


def test_a_link_that_leads_nowhere(server: str) -> None:
    with pytest.raises(FetchError, match="404"):
        plan(f"{server}/b.ipynb")


def test_a_model_by_name_asks_only_for_its_small_files(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server)
    monkeypatch.setenv("HF_HUB_CACHE", "nowhere")
    found = plan("org/x")
    assert found.subject.kind == "model"
    assert {f.id for f in found.findings} == {"remote-code", "no-licence"}
    assert ("unpickle", "model.bin") in {(e.kind, e.target) for e in found.effects}
    assert "not fetched" in found.unread[0].reason
    with pytest.raises(NotFound):
        plan("org/none")
