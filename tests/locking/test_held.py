"""Runs held to a lock: offline, nothing else, and a mismatch explained."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from world import World, notebook, project

from allmend.errors import AllmendError, FetchError, InputError, NotFound, Refused, Unavailable, UsageError
from allmend.locking import clones, environment, forms, store, upstream
from allmend.nouns.lock import HubFile, LockedClone, LockedFile, LockedPackage
from allmend.nouns.receipt import Receipt
from allmend.runs import alive
from allmend.verbs.lock import lock
from allmend.verbs.run import run

REPO = "http://code.test/o/repo"
FILE = "http://files.test/x.bin"


def locked(path: Path, **more: object) -> Receipt:
    return run(path, locked=True, yes=True, **more)  # type: ignore[arg-type]


def texts(path: Path) -> str:
    """All text that the executed notebook printed."""
    executed = json.loads((path.parent / f"{path.stem}-run" / path.name).read_text())
    found = []
    for cell in executed["cells"]:
        for output in cell.get("outputs", ()):
            found.append("".join(output.get("text", "")) + str(output.get("evalue", "")))
    return "\n".join(found)


def test_everything_comes_from_the_cache(world: World, tmp_path: Path) -> None:
    world.package("aaa", "1.0", needs=("bbb",))
    world.package("bbb", "1.0")
    commit = world.repository(REPO, {"mod.py": "value = 'from the clone'\n", "requirements.txt": "aaa>=1\n"})
    world.file(FILE, b"the content")
    path = notebook(
        tmp_path / "nb.ipynb",
        "%%capture\n!pip install -q aaa",
        f"!git clone {REPO}.git\n!pip install -r repo/requirements.txt\n!git -C repo rev-parse HEAD",
        f"!wget -q {FILE} -O y.bin && cat y.bin\nimport urllib.request as u\nprint(u.urlopen('{FILE}').read())",
        "import sys; sys.path.insert(0, 'repo')\nimport aaa, bbb, mod\n"
        "print('got', aaa.__version__, bbb.__version__, mod.value)",
    )
    lock(path, profile="this")
    world.package("aaa", "2.0")
    world.file(FILE, b"something else")
    world.commit(REPO, {"mod.py": "value = 'moved on'\n"})
    world.down = True
    receipt = locked(path)
    said = texts(path)
    assert receipt.ended == "finished", (receipt.ended_why, said)
    assert "got 1.0 1.0 from the clone" in said and commit in said
    assert "the content" in said and "b'the content'" in said and "something else" not in said
    denied = [event for event in receipt.events if event.verdict == "denied"]
    assert not denied, denied


def test_https_from_the_cache_for_every_client(world: World, tmp_path: Path) -> None:
    url = "https://files.example/data.bin"
    path = notebook(
        tmp_path / "nb.ipynb",
        f"!curl -sS {url}\n!wget -qO- {url}\nimport urllib.request as u\nprint(u.urlopen('{url}').read())",
        f"import httpx\nprint(httpx.get('{url}').text, httpx.get('{url}', headers={{'Range': 'bytes=6-'}}).text)",
    )
    world.files[url] = (b"", {})
    held = lock_with_file(path, url, b"inner content")
    assert held
    receipt = locked(path)
    said = texts(path)
    assert receipt.ended == "finished", said
    assert said.count("inner content") == 4 and "content" in said.splitlines()[-1]


def lock_with_file(path: Path, url: str, content: bytes) -> bool:
    """A lock that holds an https file as if it had been fetched."""
    digest, size = store.add([content])
    from allmend.locking import fetch

    before = fetch.file
    fetch.file = lambda address, most=None: LockedFile(url=address, sha256=digest, bytes=size)  # type: ignore[assignment]
    try:
        return bool(lock(path, profile="this").downloads)
    finally:
        fetch.file = before


def test_anything_else_is_refused_and_told(world: World, tmp_path: Path) -> None:
    world.file(FILE, b"x")
    world.package("aaa", "1.0")
    path = notebook(
        tmp_path / "nb.ipynb",
        "which = 'x'  #@param {type:'string'}\n!pip install aaa",
        "!wget http://files.test/{which}.bin",
        "import urllib.request as u\n"
        "try: u.urlopen(''.join(['http://files', '.test/other.bin']))\n"
        "except Exception as error: print('refused', error, error.read().decode())",
        "import os\nname = os.environ['USER']\n!pip install {name}\n!uv pip install aaa",
        "!curl -sS -X POST -d a=b http://files.test/x.bin",
    )
    lock(path, profile="this")
    receipt = locked(path, keep_going=True)
    said = texts(path)
    assert "refused HTTP Error 403" in said and "http://files.test/other.bin: it is not in the lock" in said
    assert "user is not in the lock" in said and "satisfied (locked): aaa" in said
    assert "sends nothing" in said
    denied = [event for event in receipt.events if event.verdict == "denied" and event.source == "lock"]
    assert [event.target for event in denied] == ["http://files.test/other.bin", "http://files.test/x.bin"]
    receipt = locked(path, keep_going=True, parameters=["which=changed"])
    assert any("changed.bin" in event.target for event in receipt.events if event.verdict == "denied")


def test_an_edited_notebook_is_refused_naming_the_edit(world: World, tmp_path: Path) -> None:
    world.package("aaa", "1.0")
    world.package("bbb", "1.0")
    path = notebook(tmp_path / "nb.ipynb", "!pip install aaa", "print(1)")
    lock(path, profile="this")
    data = json.loads(path.read_text())
    data["cells"][1]["source"] = "print(2)"
    path.write_text(json.dumps(data))
    assert locked(path).ended == "finished"
    data["cells"][0]["source"] = "!pip install bbb"
    path.write_text(json.dumps(data))
    with pytest.raises(Refused, match=r"(?s)was it edited after.*pip install bbb.*no longer asks for: pip install aaa"):
        locked(path)
    with pytest.raises(NotFound, match="no lock"):
        locked(notebook(tmp_path / "none.ipynb", "print(1)"))
    with pytest.raises(UsageError, match="needs the box"):
        locked(path, unsandboxed=True)


def test_a_file_that_changed_upstream_is_refused_with_since_when(world: World, tmp_path: Path) -> None:
    world.file(FILE, b"as locked")
    path = notebook(tmp_path / "nb.ipynb", f"!wget -q {FILE}")
    lock(path, profile="this")
    world.file(FILE, b"changed!!", "Sat, 01 Apr 2023 12:00:00 GMT")
    assert locked(path).ended == "finished"
    shutil.rmtree(store.folder())
    with pytest.raises(Refused, match=r"(?s)changed upstream since Sat, 01 Apr 2023.*--update"):
        locked(path)
    del world.files[FILE]
    with pytest.raises(NotFound, match=r"(?s)gone upstream and is not in the cache.*[Cc]opy the cache"):
        locked(path)
    lock(path, profile="this", update=["all"])


def test_a_damaged_cache_is_mended_or_told(world: World, tmp_path: Path) -> None:
    world.package("aaa", "1.0")
    world.file(FILE, b"as locked")
    path = notebook(
        tmp_path / "nb.ipynb", "!pip install aaa", f"!curl -sS {FILE}", "import aaa; print(aaa.__version__)"
    )
    held = lock(path, profile="this")
    assert locked(path).ended == "finished"
    aaa = held.package("aaa")
    assert aaa is not None
    for digest in (aaa.sha256, held.downloads[0].sha256):
        data = store.place(digest).read_bytes()
        store.place(digest).write_bytes(b"?" + data[1:])
    shutil.rmtree(tmp_path / "world/cache/allmend/environments")
    world.down = True
    with pytest.raises(FetchError, match=r"aaa 1.0 is damaged or missing in the cache"):
        locked(path)
    world.down = False
    assert locked(path).ended == "finished"
    assert "damaged or gone" in texts(path)  # the file is found damaged when it is asked for
    assert locked(path).ended == "finished" and "as locked" in texts(path)  # taken out then, so fetched now


def test_another_interpreter_or_machine_is_told(world: World, tmp_path: Path) -> None:
    path = notebook(tmp_path / "nb.ipynb", "print(1)")
    held = lock(path, profile="this")
    for part, word in (
        ({"version": "3.7.17"}, "this lock is for cpython 3.7.17"),
        ({"platform": "macosx-14-arm64"}, "this machine is"),
    ):
        other = held.model_copy(update={"python": held.python.model_copy(update=part)})
        forms.write(path, other)
        with pytest.raises(Unavailable, match=word):
            locked(path)
    changed = [one.model_copy(update={"version": "0.0.1"}) if one.name == "httpx" else one for one in held.packages]
    forms.write(path, held.model_copy(update={"packages": changed}))
    with pytest.raises(Refused, match=r"httpx 0.0.1 is \d"):
        locked(path)


def test_a_commit_that_was_rewritten_upstream(world: World, tmp_path: Path) -> None:
    world.repository(REPO, {"a": "1"})
    path = notebook(tmp_path / "nb.ipynb", f"!git clone -q {REPO}\n!cat repo/a")
    held = lock(path, profile="this")
    clones.forget(REPO)
    assert locked(path).ended == "finished"
    clones.forget(REPO)
    shutil.rmtree(world.repositories.pop(REPO))
    world.repository(REPO, {"a": "another history"})
    with pytest.raises(AllmendError, match=held.clones[0].commit[:12]):
        locked(path)


def test_source_is_built_in_the_box_once(world: World, tmp_path: Path) -> None:
    escaped = tmp_path / "escaped"
    first = f"try: open({str(escaped)!r}, 'w').write('x')\nexcept OSError: pass\n"
    world.source("srconly", "1.0", first=first)
    world.repository(REPO, project("fromgit", "0.1", needs=("aaa",), first=first))
    world.package("aaa", "1.0")
    path = notebook(
        tmp_path / "nb.ipynb",
        f"!pip install srconly git+{REPO}.git",
        "import srconly, fromgit, aaa\nprint('all', srconly.__version__, fromgit.__version__)",
    )
    held = lock(path, profile="this")
    assert not escaped.exists()
    found = {one.name: one.via for one in held.packages if one.via != "base"}
    assert {name: found.get(name) for name in ("srconly", "fromgit", "aaa")} == {
        "srconly": "sdist", "fromgit": "git", "aaa": "index",
    }  # fmt: skip
    first = path.read_bytes()
    lock(path, profile="this")
    assert path.read_bytes() == first
    world.down = True
    assert locked(path).ended == "finished" and "all 1.0 0.1" in texts(path)


def test_source_that_does_not_build_is_refused_by_name(world: World, tmp_path: Path) -> None:
    world.source("broken", "1.0", first="raise SystemExit('no compiler here')\n")
    path = notebook(tmp_path / "nb.ipynb", "!pip install broken")
    with pytest.raises(Refused, match=r"(?s)broken 1.0 comes only as source.*no compiler here"):
        lock(path, profile="this")


def test_a_hub_client_reads_the_locked_model(world: World, tmp_path: Path) -> None:
    world.model("o/tiny", {"config.json": b'{"a": 1}', "model.bin": b"w" * 500})
    path = notebook(
        tmp_path / "nb.ipynb",
        "from huggingface_hub import hf_hub_download, snapshot_download\n"
        "p = hf_hub_download('o/tiny', 'config.json')\nprint(open(p).read())\n"
        "import os\nprint(sorted(os.listdir(snapshot_download('o/tiny'))))",
    )
    held = lock(path, profile="this")
    assert held.repositories
    world.down = True
    receipt = locked(path)
    assert receipt.ended == "finished", texts(path)
    assert '{"a": 1}' in texts(path) and "['config.json', 'model.bin']" in texts(path)


def test_a_lock_that_cannot_be_read_stops_the_run(world: World, tmp_path: Path) -> None:
    path = notebook(tmp_path / "nb.ipynb", "print(1)")
    lock(path, profile="this")
    (tmp_path / "nb.lock.toml").write_text('schema = "allmend.lock/9"\n')
    with pytest.raises(InputError, match="no lock"):
        locked(path)


def test_a_damaged_clone_is_fetched_again_or_told(world: World, tmp_path: Path) -> None:
    world.repository(REPO, {"a": "the text\n" * 2000})
    path = notebook(tmp_path / "nb.ipynb", f"!git clone -q {REPO}\n!head -1 repo/a")
    lock(path, profile="this")

    def damage() -> None:
        for file in [one for one in (clones.repository(REPO) / "objects").rglob("*") if one.is_file()]:
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 255
            file.chmod(0o644)
            file.write_bytes(data)

    damage()
    assert locked(path).ended == "finished" and "the text" in texts(path)
    damage()
    world.down = True
    with pytest.raises(AllmendError, match=r"(?s)missing or damaged.*copy the cache"):
        locked(path)


def test_a_cache_that_cannot_be_written_is_told(world: World, tmp_path: Path) -> None:
    (tmp_path / "world/cache").write_text("a file")
    with pytest.raises(Unavailable, match="cache cannot be written"):
        lock(notebook(tmp_path / "nb.ipynb", "print(1)"), profile="this")


def test_a_strangers_lock_can_name_nothing_of_its_own(world: World, tmp_path: Path) -> None:
    path = notebook(tmp_path / "nb.ipynb", "print(1)")
    held = lock(path, profile="this")
    other = LockedFile(url="http://files.test/other.bin", sha256="0" * 64, bytes=1)
    forms.write(path, held.model_copy(update={"downloads": [other]}))
    with pytest.raises(Refused, match=r"does not ask for what is locked: http://files.test/other.bin"):
        locked(path)
    assert "http://files.test/other.bin" not in world.asked


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (LockedPackage, {"name": "../x", "version": "1"}),
        (LockedPackage, {"name": "x", "version": "1", "file": "../../x.whl"}),
        (LockedPackage, {"name": "x", "version": "1", "sha256": "../../etc/passwd"}),
        (LockedPackage, {"name": "x", "version": "1", "subdirectory": "a/../../b"}),
        (LockedPackage, {"name": "x", "version": "1", "url": "ext::sh -c x"}),
        (LockedClone, {"url": "http://x/y", "commit": "--upload-pack=x", "committed": ""}),
        (LockedClone, {"url": "http://x/y", "commit": "a" * 40, "committed": "", "branch": "a\nb"}),
        (LockedClone, {"url": "file:///x", "commit": "a" * 40, "committed": ""}),
        (HubFile, {"path": "../x", "bytes": 1}),
    ],
)
def test_a_lock_whose_texts_would_lead_elsewhere_is_none(kind: type, fields: dict) -> None:
    with pytest.raises(ValueError, match="validation error"):
        kind(**fields)


def test_a_run_that_just_begins_is_no_leftover_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    nothing: Any = SimpleNamespace(downloads=(), repositories=(), clones=(), packages=())
    killed = tmp_path / "allmend-up-killed"
    killed.mkdir()
    alive.release(alive.hold(killed))
    older = tmp_path / "allmend-up-older"
    older.mkdir()
    os.utime(older, (1, 1))

    class Meanwhile(upstream._Server):
        def __init__(self, *given: Any, **more: Any) -> None:
            upstream.free_of_leftovers()
            super().__init__(*given, **more)

    monkeypatch.setattr(upstream, "_Server", Meanwhile)
    made_now = Path(tempfile.mkdtemp(prefix="allmend-up-"))
    with upstream.Upstream(nothing) as running:
        upstream.free_of_leftovers()
        assert sorted(tmp_path.iterdir()) == sorted([made_now, running.folder])
        assert (running.folder / "tls").is_socket()
    assert not running.folder.exists()


def test_packages_are_installed_once_by_runs_that_come_first_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, second = tmp_path / "locked" / "site", threading.Event()
    installed: list[Path] = []

    def install(lock: object, site: Path, *more: object) -> None:
        second.wait(60)
        site.mkdir()
        (site.parent / "complete").write_text("[]")
        installed.append(site)

    def come() -> None:
        environment._install_once(nothing, site, nothing, lambda text: None)

    nothing: Any = None
    monkeypatch.setattr(environment, "_install", install)
    threads = [threading.Thread(target=come, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    threads[1].join(0.2)
    second.set()
    for thread in threads:
        thread.join(60)
    assert installed == [site]
