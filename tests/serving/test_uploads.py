"""Large files in parts, through the stock client."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from allmend.serving import files as filing
from allmend.serving import tidying
from allmend.serving import uploads as uploading
from allmend.serving.faults import Fault
from allmend.serving.files import Files
from allmend.serving.server import Server
from allmend.serving.uploads import CompleteUpload, CreateUpload, Uploads

DATA = bytes(range(256)) * 500


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def begin(client: OpenAI, size: int = len(DATA)) -> Any:
    return client.uploads.create(bytes=size, filename="a.bin", mime_type="x/y", purpose="user_data")


def test_a_file_comes_in_parts_and_is_one_like_others(client: OpenAI, tmp_path: Path) -> None:
    (tmp_path / "large.jsonl").write_bytes(DATA)
    whole = client.uploads.upload_file_chunked(
        file=tmp_path / "large.jsonl", mime_type="application/jsonl", purpose="batch", part_size=50_000,
        md5=hashlib.md5(DATA).hexdigest(),
    )  # fmt: skip
    assert whole.status == "completed" and whole.file and whole.file.bytes == len(DATA)
    assert (whole.file.filename, whole.file.purpose) == ("large.jsonl", "batch")
    assert client.files.content(whole.file.id).read() == DATA
    assert whole.file.id in [file.id for file in client.files.list(purpose="batch")]
    again = client.uploads.complete(whole.id, part_ids=[])  # A client that heard no answer asks again.
    assert again.file == whole.file
    assert client.files.delete(whole.file.id).deleted
    empty = client.uploads.upload_file_chunked(
        file=b"", filename="empty", bytes=0, mime_type="text/plain", purpose="user_data"
    )
    assert empty.file and empty.file.bytes == 0


def test_parts_are_joined_in_the_order_that_completing_names(client: OpenAI) -> None:
    upload = begin(client, 6)
    with pytest.raises(openai.BadRequestError, match="more than the 6 bytes"):
        client.uploads.parts.create(upload.id, data=b"1234567")
    # A part is sent again where its answer was lost, and is there once.
    second, first, again = (client.uploads.parts.create(upload.id, data=data).id for data in (b"def", b"abc", b"def"))
    assert again == second
    for part_ids, words in (
        ([first], "3 bytes together; 6 were announced"),
        ([first, first, second], "9 bytes together"),
        ([first, "part_" + "0" * 24], "no part"),
        ([first, "../about.json"], "no part"),
    ):
        with pytest.raises(openai.BadRequestError, match=words):
            client.uploads.complete(upload.id, part_ids=part_ids)
    with pytest.raises(openai.BadRequestError, match="md5"):
        client.uploads.complete(upload.id, part_ids=[first, second], md5="0" * 32)
    done = client.uploads.complete(upload.id, part_ids=[first, second], md5=hashlib.md5(b"abcdef").hexdigest())
    assert done.file and client.files.content(done.file.id).read() == b"abcdef"
    for wrong in (
        lambda: client.uploads.parts.create(upload.id, data=b"x"),
        lambda: client.uploads.cancel(upload.id),
    ):
        with pytest.raises(openai.BadRequestError, match="completed") as refused:
            wrong()
        assert refused.value.code == "upload_completed"


def test_what_was_cancelled_is_gone_and_others_never_were(client: OpenAI, server: Server) -> None:
    upload = begin(client)
    part = client.uploads.parts.create(upload.id, data=DATA)
    assert client.uploads.cancel(upload.id).status == client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="cancelled"):
        client.uploads.complete(upload.id, part_ids=[part.id])
    for identity in ("upload_" + "0" * 24, "upload_x", "..%2f..%2fhome"):
        with pytest.raises(openai.NotFoundError) as missing:
            client.uploads.parts.create(identity, data=b"x")
        assert missing.value.code in ("not_found", "unknown_url")
    form = {"dta": ("a", b"x"), "data": ("a", b"x")}
    assert httpx.post(f"{server.url}/v1/uploads/{upload.id}/parts", files=form).json()["error"]["param"] == "dta"
    body = {"bytes": 9 << 30, "filename": "a", "mime_type": "b", "purpose": "batch"}
    assert httpx.post(f"{server.url}/v1/uploads", json=body).status_code == 400


def made(uploads: Uploads, size: int = 6, owner: str = "a") -> str:
    body = {"bytes": size, "filename": "f", "mime_type": "m", "purpose": "user_data"}
    return uploads.create(CreateUpload.model_validate(body), owner).id


def test_uploads_outlive_a_server_and_what_ends_half_way_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path / "files")
    uploads = Uploads(tmp_path / "uploads", files)
    upload = made(uploads)
    parts = [uploads.add(upload, io.BytesIO(each), "a").id for each in (b"abc", b"def")]
    after = Uploads(tmp_path / "uploads", Files(tmp_path / "files"))
    with pytest.raises(uploading.Missing):
        after.complete(upload, CompleteUpload(part_ids=parts), "b")

    def ends(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(after, "_end", ends)  # The file is there, and the upload does not know of it.
        with pytest.raises(KeyboardInterrupt):
            after.complete(upload, CompleteUpload(part_ids=parts), "a")
    done = uploads.complete(upload, CompleteUpload(part_ids=parts), "a")
    assert done.file and files.content(done.file.id, "a").read_bytes() == b"abcdef"
    assert len(list((tmp_path / "files").iterdir())) == 1
    assert not (tmp_path / "uploads" / upload / "parts").exists()


def test_what_is_not_completed_in_time_leaves_no_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = Uploads(tmp_path / "uploads", Files(tmp_path / "files"))
    half = tmp_path / "files" / ".file-killed"
    half.mkdir(parents=True)
    (half / "content").write_bytes(b"abc")
    late = made(uploads)
    uploads.add(late, io.BytesIO(b"abc"), "a")
    assert uploads.promised("a") == 6 and uploads.promised("b") == 0

    def later(seconds: int) -> None:
        clock = SimpleNamespace(time=lambda: time.time() + seconds, monotonic=time.monotonic, sleep=time.sleep)
        for module in (uploading, filing, tidying):
            monkeypatch.setattr(module, "time", clock)

    later(3700)
    with pytest.raises(Fault, match="expired"):
        uploads.add(late, io.BytesIO(b"def"), "a")
    uploads.sweep()
    assert uploads.promised("a") == 0 and not (tmp_path / "uploads" / late / "parts").exists()
    later(30 * 3600)
    assert half.exists()
    uploads.sweep()
    assert not half.exists()
    assert late not in [path.name for path in (tmp_path / "uploads").iterdir()]


def test_room_is_set_aside_for_what_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filing, "_MOST_TOGETHER", 1000)
    files = Files(tmp_path / "files")
    uploads = Uploads(tmp_path / "uploads", files)
    first = made(uploads, 600)
    with pytest.raises(Fault, match="delete some first"):
        made(uploads, 600)
    with pytest.raises(Fault, match="delete some first"):
        files.add(io.BytesIO(bytes(500)), name="x", purpose="batch", owner="a")
    made(uploads, 600, owner="b")
    uploads.cancel(first, "a")
    files.add(io.BytesIO(bytes(500)), name="x", purpose="batch", owner="a")
    monkeypatch.setattr(uploading, "_MOST_PENDING", 3)
    for _ in range(3):
        made(uploads, 0)
    with pytest.raises(Fault, match="3 uploads"):
        made(uploads, 0)


def test_completed_twice_at_once_it_is_one_file_and_nothing_larger_than_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "_PATIENCE", 300)
    files = Files(tmp_path / "files")
    uploads = Uploads(tmp_path / "uploads", files)
    upload = made(uploads, 8 * 1000)
    results: list[Any] = []

    def put() -> None:
        try:
            content = threading.current_thread().name.encode().ljust(1000)
            results.append(uploads.add(upload, io.BytesIO(content), "a").id)
        except Fault as fault:
            results.append(fault.status)

    def complete() -> None:
        results.append(uploads.complete(upload, CompleteUpload(part_ids=parts), "a"))

    for work, count in ((put, 12), (complete, 4)):
        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if work is put:
            parts = [each for each in results if isinstance(each, str)]
            assert len(parts) == 8 and results.count(400) == 4
    assert {each.file.id for each in results[-4:]} == {results[-1].file.id} and len(
        files.page("a", filing.Page()).data
    ) == 1
