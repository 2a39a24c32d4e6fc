"""Catalogue files from a real package index on loopback, through everything that can go wrong on the way."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import index_server
import pytest

from allmend.errors import DoesNotFit, FetchError, NotFound
from allmend.models.catalogue import Entry
from allmend.models.fetch import fetch, fetched, write_once


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def noise(tmp_path: Path) -> tuple[Entry, bytes]:
    return index_server.entry(tmp_path / "files")


@pytest.fixture
def index(tmp_path: Path, home: Path, noise: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[index_server.Index]:
    with index_server.serving(tmp_path / "files") as server:
        monkeypatch.setenv("PIP_INDEX_URL", server.url)
        yield server


def left(home: Path) -> list[str]:
    """Files of the home that are neither finished nor to be continued from."""
    parts = [path for path in home.rglob("*") if path.is_file() and path.name != ".lock"]
    return sorted(path.name for path in parts)


DONE = ["TERMS.txt", "noise.bin"]


def test_it_is_put_together_verified_and_found_again(index: index_server.Index, home: Path, noise: Any) -> None:
    entry, whole = noise
    told: list[tuple[str, int, int]] = []
    assert fetched("models", "noise", entry) is None
    path = fetch("models", "noise", entry, lambda *what: told.append(what))
    assert path.read_bytes() == whole and path.with_name("TERMS.txt").read_bytes() == b"terms"
    assert left(home) == DONE
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1:] == (entry.download_bytes, entry.download_bytes)
    asked = len(index.asked)
    assert asked == 3
    assert fetch("models", "noise", entry) == path == fetched("models", "noise", entry)
    assert len(index.asked) == asked


def test_a_folder_of_files_does_as_well(tmp_path: Path, home: Path, noise: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "files"))
    entry, whole = noise
    assert fetch("models", "noise", entry).read_bytes() == whole
    assert left(home) == DONE


@pytest.mark.parametrize("ranges", [True, False], ids=["range", "no range"])
@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
def test_a_cut_connection_is_told_and_continued(
    index: index_server.Index, home: Path, noise: Any, ranges: bool, length: bool
) -> None:
    entry, whole = noise
    index.ranges, index.states_length, index.cut_after = ranges, length, 100_000
    with pytest.raises(FetchError, match="stopped arriving") as caught:
        fetch("models", "noise", entry)
    assert "continues" in (caught.value.hint or "")
    assert left(home) == ["one_part-1.0-py3-none-any.whl.part"]
    index.cut_after = None
    assert fetch("models", "noise", entry).read_bytes() == whole
    assert index.asked[1][1] == "bytes=100000-"
    assert left(home) == DONE


def test_many_cuts_on_the_way_are_survived(index: index_server.Index, home: Path, noise: Any) -> None:
    entry, whole = noise
    index.cut_after, tries = 70_000, 0
    while True:
        tries += 1
        try:
            path = fetch("models", "noise", entry)
            break
        except FetchError:
            assert tries < 30
    assert path.read_bytes() == whole and tries > 5


def test_other_bytes_are_refused_and_nothing_is_kept(index: index_server.Index, home: Path, noise: Any) -> None:
    entry, whole = noise
    index.corrupt = True
    with pytest.raises(FetchError, match="SHA-256"):
        fetch("models", "noise", entry)
    assert left(home) == []
    index.corrupt = False
    assert fetch("models", "noise", entry).read_bytes() == whole


def test_damage_on_this_side_is_found_and_mended(index: index_server.Index, home: Path, noise: Any) -> None:
    entry, whole = noise
    index.cut_after = 100_000
    with pytest.raises(FetchError):
        fetch("models", "noise", entry)
    partial = home / "cache" / "distributions" / "one_part-1.0-py3-none-any.whl.part"
    partial.write_bytes(b"\0" * 100_000)
    index.cut_after = None
    with pytest.raises(FetchError, match="SHA-256"):
        fetch("models", "noise", entry)
    assert fetch("models", "noise", entry).read_bytes() == whole


@pytest.mark.parametrize("change", [1, -1])
def test_another_size_than_stated_is_refused(index: index_server.Index, home: Path, noise: Any, change: int) -> None:
    entry, _ = noise
    first = entry.parts[0]
    wrong = first.model_copy(update={"size": first.size + change})
    with pytest.raises(FetchError):
        fetch("models", "noise", entry.model_copy(update={"parts": (wrong, *entry.parts[1:])}))
    assert "noise.bin" not in left(home)


def test_parts_that_make_another_whole_are_refused(index: index_server.Index, home: Path, noise: Any) -> None:
    entry, _ = noise
    for update in ({"sha256": "0" * 64}, {"size": entry.size - 1}, {"parts": entry.parts[:2]}):
        with pytest.raises(FetchError):
            fetch("models", "noise", entry.model_copy(update=update))
        assert "noise.bin" not in left(home) and not list(home.rglob("*.new"))


def test_a_member_that_is_not_there_is_told(index: index_server.Index, home: Path, noise: Any) -> None:
    entry, _ = noise
    for member in ("one/data/z.bin", "one/data/a.bin!x"):
        wrong = entry.parts[0].model_copy(update={"member": member})
        with pytest.raises(FetchError, match="does not hold"):
            fetch("models", "noise", entry.model_copy(update={"parts": (wrong, *entry.parts[1:])}))
        assert "noise.bin" not in left(home)


def test_a_longer_beginning_than_the_file_is_dropped(index: index_server.Index, home: Path, noise: Any) -> None:
    """416: what is here began another file of that name."""
    entry, _ = noise
    downloads = home / "cache" / "distributions"
    downloads.mkdir(parents=True)
    bigger = entry.parts[0].model_copy(update={"size": entry.parts[0].size + 5000})
    (downloads / f"{bigger.file}.part").write_bytes(b"x" * (bigger.size - 10))
    with pytest.raises(FetchError, match="416"):
        fetch("models", "noise", entry.model_copy(update={"parts": (bigger, *entry.parts[1:])}))
    assert left(home) == []


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_an_answer_that_is_none_is_told(index: index_server.Index, home: Path, noise: Any, status: int) -> None:
    index.status = status
    with pytest.raises(FetchError, match=str(status)):
        fetch("models", "noise", noise[0])
    assert left(home) == []


def test_what_the_index_lacks_is_told(index: index_server.Index, home: Path, noise: Any) -> None:
    entry, _ = noise
    for update in ({"package": "nothing-like-it"}, {"file": "one_part-2.0-py3-none-any.whl"}):
        wrong = entry.parts[0].model_copy(update=update)
        with pytest.raises(NotFound, match="has no file"):
            fetch("models", "noise", entry.model_copy(update={"parts": (wrong, *entry.parts[1:])}))


def test_an_index_that_is_not_there_is_told(home: Path, noise: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("PIP_TIMEOUT", "2")
    with pytest.raises((FetchError, NotFound)) as caught:
        fetch("models", "noise", noise[0])
    assert caught.value.hint


FETCH = (
    "import sys, pathlib\n"
    "from allmend.models.catalogue import Entry\n"
    "from allmend.models.fetch import fetch\n"
    "print(fetch('models', 'noise', Entry.model_validate_json(pathlib.Path(sys.argv[1]).read_text())))\n"
)


def fetching(tmp_path: Path, entry: Entry, **more: Any) -> subprocess.Popen[str]:
    (tmp_path / "entry.json").write_text(entry.model_dump_json())
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(tmp_path / "entry.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def test_two_processes_at_once_fetch_once(tmp_path: Path, index: index_server.Index, home: Path, noise: Any) -> None:
    entry, whole = noise
    index.seconds_a_chunk = 0.005
    both = [fetching(tmp_path, entry) for _ in range(2)]
    said = [process.communicate(timeout=180) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert Path(said[0][0].strip()).read_bytes() == whole
    assert len(index.asked) == 3 and left(home) == DONE


def test_killed_in_the_middle_the_next_one_completes(
    tmp_path: Path, index: index_server.Index, home: Path, noise: Any
) -> None:
    entry, whole = noise
    index.seconds_a_chunk = 0.01
    numbers = random.Random(0)
    for _ in range(int(os.environ.get("ALLMEND_KILLS", "3"))):
        process = fetching(tmp_path, entry)
        while not list(home.glob("cache/distributions/*.part")) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(numbers.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert fetched("models", "noise", entry) is None or (home / "models/noise/noise.bin").read_bytes() == whole
    index.seconds_a_chunk = 0
    assert fetch("models", "noise", entry).read_bytes() == whole
    assert any(wanted for _, wanted in index.asked)
    assert left(home) == DONE


def test_a_disk_that_takes_no_more_is_told_and_continued(
    tmp_path: Path, index: index_server.Index, home: Path, noise: Any
) -> None:
    """The kernel refuses to write beyond 200 kB a file, as a quota does (EFBIG)."""
    entry, whole = noise
    for limit, kept in ((200_000, True), (400_000, True)):
        process = fetching(
            tmp_path, entry, preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        )
        _, said = process.communicate(timeout=180)
        assert process.returncode == 1 and "DoesNotFit" in said and "ALLMEND_HOME" in said, said
        assert bool(list(home.glob("cache/distributions/*"))) is kept
        assert not (home / "models/noise/noise.bin").exists() and not list(home.rglob("*.new"))
    assert fetch("models", "noise", entry).read_bytes() == whole


def test_a_full_disk_is_told_before_anything_is_fetched(index: index_server.Index, home: Path, noise: Any) -> None:
    huge = noise[0].model_copy(update={"size": 1 << 60})
    with pytest.raises(DoesNotFit, match="MiB are needed") as caught:
        fetch("models", "noise", huge)
    assert "ALLMEND_HOME" in (caught.value.hint or "") and not index.asked


def test_the_catalogue_is_whole() -> None:
    from allmend.models import catalogue

    found = catalogue()
    assert "gemma-3-270m" in found.models and "movie-reviews" in found.data
    for entry in (*found.models.values(), *found.data.values()):
        assert entry.licence and len(entry.sha256) == 64 and entry.parts
        for part in (*entry.parts, *entry.notices):
            assert len(part.sha256) == 64 and part.size > 0 and part.version in part.file
        assert json.loads(entry.model_dump_json())


def test_what_is_made_of_it_is_made_once_and_never_half(tmp_path: Path) -> None:
    target, begun, go = tmp_path / "rows.jsonl", threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"first\n"
        begun.set()
        assert go.wait(60)
        yield b"last\n"

    first = threading.Thread(target=write_once, args=(target, slow()), daemon=True)
    second = threading.Thread(target=write_once, args=(target, [b"others\n"]), daemon=True)
    first.start()
    assert begun.wait(60)
    second.start()
    second.join(0.2)
    assert not target.exists()
    go.set()
    for thread in (first, second):
        thread.join(60)
    assert target.read_bytes() == b"first\nlast\n"
    assert not list(tmp_path.glob(".*.new"))
