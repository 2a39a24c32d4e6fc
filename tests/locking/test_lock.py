"""Making locks: what is fixed, what is not, and that the same is the same bytes."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from world import World, notebook

from allmend.errors import AllmendError, InputError, NotFound, UsageError
from allmend.nouns.lock import Lock
from allmend.verbs import lock as verb
from allmend.verbs.lock import lock

REPO = "http://code.test/o/repo"


def at(path: Path, **more: object) -> Lock:
    return lock(path, profile="this", **more)  # type: ignore[arg-type]


def own(held: Lock) -> dict[str, str]:
    return {one.name: one.version for one in held.packages if one.via != "base"}


def test_a_lock_made_twice_is_the_same_bytes(world: World, tmp_path: Path) -> None:
    world.package("aaa", "1.0", needs=("bbb",))
    world.package("bbb", "2.0")
    commit = world.repository(REPO, {"run.py": "print(1)\n"})
    digest = world.file("http://files.test/x.bin", b"content")
    path = notebook(
        tmp_path / "nb.ipynb", "!pip install aaa", f"!git clone {REPO}.git", "!wget http://files.test/x.bin"
    )
    held = at(path)
    first = (path.read_bytes(), (tmp_path / "nb.lock.toml").read_bytes())
    assert own(held) == {"aaa": "1.0", "bbb": "2.0"}
    assert held.clones[0].commit == commit and held.downloads[0].sha256 == digest
    at(path)
    assert (path.read_bytes(), (tmp_path / "nb.lock.toml").read_bytes()) == first
    (tmp_path / "nb.lock.toml").unlink()
    path = notebook(
        tmp_path / "nb.ipynb", "!pip install aaa", f"!git clone {REPO}.git", "!wget http://files.test/x.bin"
    )
    at(path)
    assert (path.read_bytes(), (tmp_path / "nb.lock.toml").read_bytes()) == first
    inside = json.loads(path.read_text())["metadata"]["allmend"]["lock"]
    assert Lock.model_validate(inside) == Lock.model_validate(tomllib.loads(first[1].decode())) == held


def test_a_lock_stays_until_it_is_updated_by_name(world: World, tmp_path: Path) -> None:
    for name in ("aaa", "bbb"):
        world.package(name, "1.0")
    path = notebook(tmp_path / "nb.ipynb", "!pip install aaa bbb")
    at(path)
    for name in ("aaa", "bbb"):
        world.package(name, "2.0")
    assert own(at(path)) == {"aaa": "1.0", "bbb": "1.0"}
    assert own(at(path, update=["bbb"])) == {"aaa": "1.0", "bbb": "2.0"}
    report = verb.check(path)
    assert report.same and report.not_checked
    before = tmp_path / "before.toml"
    before.write_bytes((tmp_path / "nb.lock.toml").read_bytes())
    at(path, update=["all"])
    assert [change.words for change in verb.diff(path, before).changes] == [
        "package aaa: 1.0 became 2.0, of 2023-01-01"
    ]
    with pytest.raises(UsageError, match=r"(?s)'aab'.*'aaa'"):
        at(path, update=["aab"])


def test_as_of_a_day(world: World, tmp_path: Path) -> None:
    world.package("aaa", "1.0", "2023-01-01T00:00:00Z")
    world.package("aaa", "2.0", "2023-04-01T00:00:00Z")
    first = world.repository(REPO, {"a": "1"})
    world.commit(REPO, {"a": "2"}, "2023-06-01T00:00:00Z")
    path = notebook(tmp_path / "nb.ipynb", "!pip install aaa", f"!git clone {REPO}")
    held = at(path, as_of="2023-03-01")
    assert own(held) == {"aaa": "1.0"} and held.clones[0].commit == first
    assert not held.notes and held.package("aaa").uploaded == "2023-01-01T00:00:00Z"  # type: ignore[union-attr]
    assert at(path).as_of == "2023-03-01"
    world.package("late", "1.0", "2024-01-01T00:00:00Z")
    path = notebook(tmp_path / "late.ipynb", "!pip install late")
    with pytest.raises(NotFound, match="2023-03-01"):
        at(path, as_of="2023-03-01")
    with pytest.raises(UsageError, match="no day"):
        at(path, as_of="March")


def test_an_index_without_dates_is_said_not_to_hold_the_day(world: World, tmp_path: Path) -> None:
    world.package("dated", "1.0", "2023-01-01T00:00:00Z")
    world.package("undated", "3.0", None)
    path = notebook(tmp_path / "nb.ipynb", "!pip install dated undated")
    held = at(path, as_of="2023-03-01")
    assert own(held) == {"dated": "1.0", "undated": "3.0"}
    assert any("undated" in note and "2023-03-01 is not held" in note for note in held.notes)


def test_the_last_of_conflicting_pins_stays_as_pip_leaves_it(world: World, tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        world.package("aaa", version)
    world.package("bbb", "1.0", needs=("aaa<2",))
    path = notebook(tmp_path / "nb.ipynb", "!pip install aaa==1.0", "!pip install aaa==2.0")
    held = at(path)
    assert own(held) == {"aaa": "2.0"} and "cell 0 asks for 1.0" in held.notes[0]
    path = notebook(tmp_path / "two.ipynb", "!pip install bbb==1.0", "!pip install aaa==2.0")
    held = at(path)
    assert own(held) == {"aaa": "2.0", "bbb": "1.0"} and "exclude each other" in held.notes[0]
    path = notebook(tmp_path / "three.ipynb", "!pip install 'bbb>=1' 'aaa>=2'")
    with pytest.raises(InputError, match="exclude each other") as caught:
        at(path)
    assert caught.value.where == "cells 0"


def test_every_way_of_installing(world: World, tmp_path: Path) -> None:
    for name in ("one", "two", "three", "four", "five", "six-pack", "seven", "eight"):
        world.package(name, "1.0")
    file, content = world.index["four"][0][:2]
    world.file(f"http://files.test/{file}", content)
    del world.index["four"]
    links, (file, content) = "http://links.test/all.html", world.index.pop("five")[0][:2]
    world.file(f"http://links.test/{file}", content)
    world.files[links] = (f'<a href="{file}">{file}</a>'.encode(), {"Content-Type": "text/html"})
    world.repository(REPO, {"requirements.txt": "seven  # by file\n-r more/others.txt\n", "more/others.txt": "eight\n"})
    path = notebook(
        tmp_path / "nb.ipynb",
        "%%capture\n!pip install -q one",
        "use_it = True #@param {type:'boolean'}\nif use_it:\n    %pip install two",
        "for name in ['three', 'six_pack']:\n    !pip install {name}",
        "!pip install http://files.test/four-1.0-py3-none-any.whl",
        f"%%bash\npip install five -f {links}",
        f"!git clone {REPO}\n!pip install -r repo/requirements.txt",
        "import os\nos.system(f'pip install {os.environ[\"X\"]}')",
    )
    held = at(path)
    assert own(held) == dict.fromkeys(["eight", "five", "four", "one", "seven", "six-pack", "three", "two"], "1.0")
    four = held.package("four")
    assert four is not None and four.via == "url" and four.url.startswith("http://files.test/")
    assert [one.cell for one in held.unlocked] == [6] and "cannot be known" in held.unlocked[0].why


def test_what_is_gone_or_private_is_listed_with_the_reason(world: World, tmp_path: Path) -> None:
    world.status["http://files.test/private.bin"] = 403
    world.status["http://code.test/o/secret/info/refs?service=git-upload-pack"] = 401
    path = notebook(
        tmp_path / "nb.ipynb",
        "!wget http://files.test/gone.bin http://files.test/private.bin",
        "!git clone http://code.test/o/secret\n!git clone http://code.test/o/none",
        "!gdown 1a2b3c4d5e6f7g8h9i0j1a2b3c4d5e6f7",
    )
    why = {one.what.split()[-1]: one.why for one in at(path).unlocked}
    assert "404" in why["http://files.test/gone.bin"] and "private" in why["http://files.test/private.bin"]
    assert "account" in why["http://code.test/o/secret"] and "no such repository" in why["http://code.test/o/none"]
    assert any("gdown" in text for text in why.values())
    path = notebook(tmp_path / "nopackage.ipynb", "!pip install nothing-of-that-name")
    with pytest.raises(NotFound, match="nothing-of-that-name"):
        at(path)


def test_a_server_that_is_down_is_no_reason_to_leave_something_out(world: World, tmp_path: Path) -> None:
    world.status["http://files.test/x.bin"] = 503
    path = notebook(tmp_path / "nb.ipynb", "!wget http://files.test/x.bin")
    with pytest.raises(AllmendError, match="503"):
        at(path)
    assert not (tmp_path / "nb.lock.toml").exists()


def test_models_to_their_commit_and_digests(world: World, tmp_path: Path) -> None:
    world.model("o/tiny", {"config.json": b"{}", "model.safetensors": b"w" * 500})
    path = notebook(
        tmp_path / "nb.ipynb", "from transformers import AutoModel\nm = AutoModel.from_pretrained('o/tiny')"
    )
    held = at(path)
    found = held.repositories[0]
    assert found.commit == "c" * 40 and {file.path: file.bytes for file in found.files} == {
        "config.json": 2, "model.safetensors": 500,
    }  # fmt: skip
    assert all(len(file.sha256) == 64 for file in found.files)


def test_addresses_of_this_machines_network_are_not_fetched(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name)
    path = notebook(tmp_path / "nb.ipynb", "!wget http://169.254.169.254/latest/meta-data http://10.0.0.1/x")
    found = at(path).unlocked
    assert len(found) == 2 and all("not public" in one.why for one in found)


def test_an_edited_lock_and_two_locks_that_differ_are_told(world: World, tmp_path: Path) -> None:
    path = notebook(tmp_path / "nb.ipynb", "print(1)")
    at(path)
    file = tmp_path / "nb.lock.toml"
    file.write_text(file.read_text().replace('version = "', 'version = "0'))
    with pytest.raises(InputError, match="differ"):
        verb.check(path)
    verb.adopt(path, file)
    assert verb.check(path).same
    file.write_text("nonsense = ")
    with pytest.raises(InputError, match="no lock"):
        verb.check(path)
    with pytest.raises(NotFound, match="no lock"):
        verb.check(notebook(tmp_path / "other.ipynb", "print(1)"))


def test_the_notebooks_own_json_keeps_its_form(world: World, tmp_path: Path) -> None:
    path = notebook(tmp_path / "nb.ipynb", "print('é')", language_info={"name": "python"})
    text = json.dumps(json.loads(path.read_text()), indent=2, ensure_ascii=False)
    path.write_text(text)
    at(path)
    data = json.loads(path.read_text())
    del data["metadata"]["allmend"]
    assert json.dumps(data, indent=2, ensure_ascii=False) == text
    assert not path.read_text().endswith("\n")


def test_what_uv_and_juv_read(world: World, tmp_path: Path) -> None:
    world.package("aaa", "1.0", needs=("bbb",))
    world.package("bbb", "2.0")
    path = notebook(tmp_path / "nb.ipynb", "!pip install aaa")
    held = at(path)
    text = verb.export(path, tmp_path / "requirements.txt").read_text()
    assert f"aaa==1.0 \\\n    --hash=sha256:{held.package('aaa').sha256}" in text  # type: ignore[union-attr]
    block = verb.export(path, tmp_path / "block.py").read_text()
    lines = [line.removeprefix("#").removeprefix(" ") for line in block.splitlines()[1:-1]]
    told = tomllib.loads("\n".join(lines))
    assert told["dependencies"] == ["aaa==1.0"] and "bbb==2.0" in told["tool"]["uv"]["constraint-dependencies"]
    copy = json.loads(verb.export(path, tmp_path / "juv.ipynb").read_text())
    assert copy["cells"][0]["source"].startswith("# /// script")
    with pytest.raises(UsageError):
        verb.export(path, tmp_path / "x.json")
