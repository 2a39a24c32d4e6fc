"""What nobody deletes goes by itself when its time has come, and not before."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from allmend.documents.passages import Passage
from allmend.documents.store import About, Document, Index
from allmend.errors import NotFound
from allmend.runs.alive import LOCK_NAME
from allmend.serving.batch_api import Batch, BatchRequest
from allmend.serving.batches import Batches
from allmend.serving.faults import Fault
from allmend.serving.files import Expiry, Files
from allmend.serving.lists import Page
from allmend.serving.store_api import ChangeStore, CreateStore
from allmend.serving.tidying import tidy
from allmend.serving.vector_stores import Stores

DAY = 24 * 3600


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Goes forward in time by so many days."""
    now = time.time

    def go(days: float) -> None:
        monkeypatch.setattr(time, "time", lambda: now() + days * DAY)

    return go


def kept(batches: Batches, **options: Any) -> Batch:
    file = batches.files.add(io.BytesIO(b"{}"), name="b", purpose="batch", owner="anna")
    asked = {"input_file_id": file.id, "endpoint": "/v1/embeddings", "completion_window": "24h", **options}
    return batches.create(BatchRequest.model_validate(asked), "anna")


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_a_batch_that_ended_goes_after_its_files_and_one_that_is_open_stays(tmp_path: Path, later: Any) -> None:
    batches = Batches(tmp_path / "batches", Files(tmp_path / "files"))
    made, still_open = kept(batches), kept(batches)
    batches.note(made, "r0", 200, "id", {})
    done = batches.finish(made, "completed")
    assert done.output_file_id is not None
    output = batches.files.get(done.output_file_id, "anna")
    assert output.expires_at == pytest.approx(time.time() + 30 * DAY, abs=300)
    later(29)
    for sweep in (batches.files.sweep, batches.sweep):
        sweep()
    assert batches.get(made.id).status == "completed" and batches.files.get(output.id, "anna") == output
    later(31)
    for sweep in (batches.files.sweep, batches.sweep):
        sweep()
    assert names(tmp_path / "files") == []
    with pytest.raises(NotFound):
        batches.get(made.id)
    assert [each.id for _, each in batches.open()] == [still_open.id]
    assert {path.stem for path in (tmp_path / "batches").glob("batch_*")} == {still_open.id}


def test_where_it_is_to_be_kept_it_is_kept(tmp_path: Path, later: Any) -> None:
    batches = Batches(tmp_path / "batches", Files(tmp_path / "files", keep=0))
    made = kept(batches)
    batches.finish(made, "completed")
    other = batches.files.add(io.BytesIO(b"x"), name="x", purpose="user_data", owner="anna")
    soon = Expiry(anchor="created_at", seconds=3600)
    batches.files.add(io.BytesIO(b"x"), name="x", purpose="batch", owner="anna", expires=soon)
    later(3650)
    batches.files.sweep()
    batches.sweep()
    assert batches.get(made.id).status == "completed"
    assert {each.id for each in batches.files.page("anna", Page()).data} == {made.input_file_id, other.id}


def test_what_a_crash_left_goes_once_it_is_old(tmp_path: Path, later: Any) -> None:
    batches = Batches(tmp_path / "batches", Files(tmp_path / "files"))
    made = kept(batches)
    for left in ("batch_" + "0" * 24 + ".in", f".{made.id}.json.new", ".server-" + "0" * 24):
        (tmp_path / "batches" / left).mkdir() if "server" in left else (tmp_path / "batches" / left).touch()
    (tmp_path / "files" / ".file-1").mkdir()
    before = names(tmp_path / "batches"), names(tmp_path / "files")
    batches.sweep()
    batches.files.sweep()
    assert (names(tmp_path / "batches"), names(tmp_path / "files")) == before
    later(2)
    batches.sweep()
    batches.files.sweep()
    me = f".server-{batches.claims.me}"
    assert names(tmp_path / "batches") == sorted([me, f"{made.id}.in", f"{made.id}.json"])
    assert names(tmp_path / "files") == [made.input_file_id]


def test_one_sweep_that_fails_keeps_no_other_from_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allmend.serving.tidying._FIRST", 0.0)
    swept: list[int] = []

    def broken() -> None:
        raise OSError("no space left on device")

    async def run() -> bool:
        task = asyncio.create_task(tidy([broken, lambda: swept.append(1)]))
        async with asyncio.timeout(60):
            while not swept:
                await asyncio.sleep(0.01)
        goes_on = not task.done()
        task.cancel()
        return goes_on

    assert asyncio.run(run()) and swept == [1]


def test_a_server_whose_lock_cannot_be_opened_now_is_not_taken_for_gone(tmp_path: Path, later: Any) -> None:
    batches = Batches(tmp_path, Files(tmp_path / "files"))
    server = "0" * 24
    folder = tmp_path / f".server-{server}"
    folder.mkdir()
    (folder / LOCK_NAME).symlink_to(LOCK_NAME)
    later(2)
    batches.claims.sweep()
    assert not batches.claims.is_free(server) and folder.is_dir()
    (folder / LOCK_NAME).unlink()
    assert batches.claims.is_free(server) and not folder.exists()


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    service = SimpleNamespace(kind="embed", name="embed", digest="d", engine=SimpleNamespace(width=2))
    services: Any = SimpleNamespace(all=lambda: [service])
    return Stores(tmp_path / "stores", Files(tmp_path / "files"), services, {})


def made(stores: Stores, **options: Any) -> str:
    identity = stores.create(CreateStore.model_validate(options), "anna")
    piece = Passage("something to be found", None, None)
    stores.own(identity, "anna").put(Document("a.txt", "d", 21, 0), [piece], np.ones((1, 2)))
    return identity


def test_a_store_expires_after_days_without_use(stores: Stores, later: Any, tmp_path: Path) -> None:
    week = {"anchor": "last_active_at", "days": 7}
    used, unused, kept = made(stores, expires_after=week), made(stores, expires_after=week), made(stores)
    found = stores.describe(used, stores.find(used, "anna"))
    assert found.expires_after is not None and found.expires_after.days == 7 and found.status == "completed"
    assert found.last_active_at is not None and found.expires_at == found.last_active_at + 7 * DAY
    later(6)
    stores.sweep()
    stores.use(used, "anna")
    os.utime(tmp_path / "stores" / used / "used", (time.time(), time.time()))  # Files have the system's own time.
    later(8)
    for identity, status in ((used, "completed"), (unused, "expired"), (kept, "completed")):
        assert stores.describe(identity, stores.find(identity, "anna")).status == status
    with pytest.raises(Fault, match="expired"):
        stores.use(unused, "anna")
    with pytest.raises(Fault, match="expired"):
        stores.change(unused, ChangeStore.model_validate({"expires_after": None}), "anna")
    stores.sweep()
    gone = stores.describe(unused, stores.find(unused, "anna"))
    assert (gone.status, gone.file_counts.total, gone.usage_bytes) == ("expired", 0, 0)
    assert gone.expires_at == pytest.approx(time.time(), abs=300)
    with pytest.raises(Fault, match="expired"):
        stores.use(unused, "anna")
    assert stores.use(used, "anna").count() == stores.use(kept, "anna").count() == 1
    later(8 + 31)
    stores.sweep()
    with pytest.raises(NotFound):
        stores.find(unused, "anna")
    assert stores.find(kept, "anna").count() == 1
    assert stores.delete(used, "anna").deleted  # It has expired since, and can be deleted all the same.


def test_a_store_that_cannot_be_emptied_keeps_no_other_from_its_turn(
    stores: Stores, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expiring = [made(stores, expires_after={"anchor": "last_active_at", "days": 1}) for _ in range(3)]
    later(2)
    create, failures = Index.create, [OSError(errno.ENOSPC, "full"), sqlite3.OperationalError("disk is full")]

    def full(folder: Path, about: About) -> Index:
        if failures:
            raise failures.pop()
        return create(folder, about)

    monkeypatch.setattr(Index, "create", full)
    stores.sweep()
    assert sum(stores.find(each, "anna").now().expired is not None for each in expiring) == 1


def test_when_a_store_expires_can_be_changed_also_by_another_server(stores: Stores, later: Any, tmp_path: Path) -> None:
    identity = made(stores, expires_after={"anchor": "last_active_at", "days": 1})
    services: Any = SimpleNamespace(all=list)
    other = Stores(tmp_path / "stores", Files(tmp_path / "files"), services, {})
    assert other.find(identity, "anna").about.days == 1
    assert stores.change(identity, ChangeStore(name="renamed"), "anna").expires_at is not None
    never = ChangeStore.model_validate({"expires_after": None})
    assert stores.change(identity, never, "anna").expires_at is None
    later(2)
    assert other.use(identity, "anna").count() == 1
    other.sweep()
    assert other.use(identity, "anna").count() == 1


def test_limits_count_what_is_there_whoever_put_it_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: Any
) -> None:
    monkeypatch.setattr("allmend.serving.files._MOST_FILES", 3)
    one, two = Files(tmp_path), Files(tmp_path)

    def add(files: Files, owner: str = "anna", seconds: int = 3600) -> str:
        soon = Expiry(anchor="created_at", seconds=seconds)
        return files.add(io.BytesIO(b"x"), name="x", purpose="user_data", owner=owner, expires=soon).id

    made = [add(one), add(two), add(one, seconds=30 * DAY)]
    add(two, owner="ben")
    for files in (one, two):
        with pytest.raises(Fault, match="3 files are kept here"):
            add(files)
    one.delete(made[0], "anna")
    made[0] = add(two, seconds=30 * DAY)
    with pytest.raises(Fault, match="3 files are kept here"):
        add(one)
    later(1)
    add(one)
    assert {each.id for each in two.page("anna", Page()).data} > {made[0], made[2]}


def test_a_log_for_which_there_is_no_room_breaks_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    from allmend.serving.meter import Meter, Observed

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    sent: list[Any] = []

    async def hear() -> Any:
        raise AssertionError("nothing is read")

    async def note(message: Any) -> None:
        sent.append(message)

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("sys.stderr", Full())
    observed = Observed(app, meter=Meter(), log=True)
    asyncio.run(observed({"type": "http", "headers": [], "path": "/x", "method": "GET"}, hear, note))
    assert [message["status"] for message in sent] == [200]
