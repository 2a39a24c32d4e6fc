"""Notebooks that are odd or broken: told plainly, and nothing runs with a value that nobody chose."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import allmend
import notebooks
from allmend.apps.runs import AppRun
from allmend.apps.store import UPLOAD_SECONDS, Store
from allmend.verbs.app import AppServer

PATIENCE = 120
MANY = "\n".join(f'p{n} = {n} #@param {{type:"integer"}}' for n in range(240))
SHADOW = 'list = 3 #@param {type:"integer"}\nstr = "x" #@param {type:"string"}'
MISFITS = """a = 50 #@param {type:"slider", min:0, max:10, step:1}
b = "nope" #@param {type:"date"}
c = "abc" #@param {type:"number"}
d = "z" #@param ["x", "y"]
e = "yes" #@param {type:"boolean"}
f = 1 #@param {type:"slider", min:10, max:0, step:1}"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A visitor of a server with such notebooks."""
    folder = tmp_path_factory.mktemp("odd")
    notebooks.write(folder, "many.ipynb", MANY, "print(p0 + p239)")
    notebooks.write(folder, "shadow.ipynb", SHADOW, "print(list, str)")
    notebooks.write(folder, "misfits.ipynb", MISFITS, "print([a, b, c, d, e, f])")
    notebooks.write(
        folder, "dies.ipynb", "import os, time\nprint('soon', flush=True)\ntime.sleep(2)\nos._exit(3)", "print('never')"
    )
    store = tmp_path_factory.mktemp("store")
    server: AppServer
    with (
        allmend.app(folder, yes=True, port=0, ready=0, store=store) as server,
        httpx.Client(base_url=server.url, timeout=120) as made,
    ):
        made.timeout = httpx.Timeout(PATIENCE)
        yield made


def _run(client: httpx.Client, name: str, **body: object) -> dict[str, object]:
    answer = client.post(f"/{name}/runs", json=body)
    assert answer.status_code == 202, answer.text
    run = answer.json()["id"]
    until = time.monotonic() + PATIENCE
    while (shown := client.get(f"/{name}/runs/{run}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < until
        time.sleep(0.1)
    return dict(shown, text="".join(client.get(f"/{name}/runs/{run}/cells/{n}").text for n in (1, 2)))


def test_240_parameters_and_names_of_builtins(client: httpx.Client) -> None:
    assert client.get("/many/").text.count("<input") == 240
    assert "240" in str(_run(client, "many", parameters={"p0": 1})["text"])
    assert "7 y" in str(_run(client, "shadow", parameters={"list": 7, "str": "y"})["text"])


def test_a_default_that_does_not_fit_is_shown_and_used_unless_changed(client: httpx.Client) -> None:
    page = client.get("/misfits/").text
    assert page.count("is not what it asks for") == 5
    assert 'value="50"' in page
    as_shown = {"a": "50", "b": "nope", "c": "abc", "d": "z", "e": "yes", "f": "5"}
    text = str(_run(client, "misfits", text=as_shown)["text"]).replace("&#x27;", "'")
    assert "[50, 'nope', 'abc', 'z', 'yes', 5]" in text
    changed = client.post("/misfits/runs", json={"text": as_shown | {"a": "51"}})
    assert changed.status_code == 422
    assert "between 0 and 10" in changed.json()["error"]["fields"]["a"]


def test_a_kernel_that_dies_is_told_with_what_came_before(client: httpx.Client) -> None:
    shown = _run(client, "dies")
    assert shown["state"] == "failed"
    assert shown["why"] == "the kernel ended by itself (exit status 3)"
    assert "soon" in str(shown["text"])


def test_a_record_that_cannot_be_written_is_told_and_ends_nothing(tmp_path: Path) -> None:
    run = AppRun.new(tmp_path, visitor="v", values={}, uploads=())
    run.begin()
    shutil.rmtree(run.folder)
    run.end("finished", "")
    assert run.state == "finished"
    assert "could not be written" in run.why


def test_uploads_go_after_a_day_and_a_start_reads_no_earlier_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    old, new = tmp_path / "uploads" / "old", tmp_path / "uploads" / "new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    os.utime(old, (time.time() - UPLOAD_SECONDS - 60,) * 2)
    run = AppRun.new(tmp_path / "runs" / "n", visitor="v" * 32, values={"a": 1}, uploads=())
    (tmp_path / "visitors" / run.visitor).mkdir(parents=True)
    (tmp_path / "visitors" / run.visitor / "n").write_text(f"{run.id}\ngone\n")
    read: list[Path] = []
    load = AppRun.load

    def noting(folder: Path) -> AppRun | None:
        read.append(folder)
        return load(folder)

    monkeypatch.setattr(AppRun, "load", noting)
    store = Store(tmp_path)
    until = time.monotonic() + PATIENCE
    while old.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not old.exists()
    assert new.exists()
    assert not read
    assert [each["state"] for each in store.of("n", run.visitor)] == ["interrupted"]
    assert store.find("n", run.id).values == {"a": 1}
    assert read == [run.folder]
