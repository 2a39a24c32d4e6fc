"""Files and batches: whatever happens on the way, every request is answered once."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai import OpenAI

import encoders
from allmend.errors import NotFound, Unavailable
from allmend.serving.batch_api import Batch, BatchRequest, Line
from allmend.serving.batch_runner import Runner
from allmend.serving.batches import Batches, Invalid, Place
from allmend.serving.files import Expiry, Files
from allmend.serving.inside import MARK
from allmend.serving.lists import Page
from allmend.serving.server import Server
from allmend.serving.tries import MOST, Tries
from allmend.verbs.serve import start

Begin = Callable[[], Server]


@pytest.fixture
def begin(tmp_path: Path, folders: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Starts a server over the same home, again and again."""
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    embed = encoders.folder(tmp_path / "embed")
    running: list[Server] = []

    def again() -> Server:
        for server in running:
            server.close()
        running.append(start([str(folders.base), str(embed)], port=0, dtype="float32", memory="64M"))
        return running[-1]

    yield again
    for server in running:
        server.close()


def client_of(server: Server) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def lines(count: int, url: str, body: dict[str, Any]) -> bytes:
    rows = [{"custom_id": f"r{n}", "method": "POST", "url": url, "body": body} for n in range(count)]
    return "\n".join(json.dumps(row) for row in rows).encode()


def ended(client: OpenAI, identity: str, seconds: float = 300) -> Any:
    until = time.monotonic() + seconds
    while (batch := client.batches.retrieve(identity)).status not in ("completed", "failed", "cancelled", "expired"):
        assert time.monotonic() < until, batch
        time.sleep(0.05)
    return batch


def test_a_batch_is_answered_with_errors_beside(begin: Begin) -> None:
    server = begin()
    base = server.registry.bases()[0].name
    chat = {"model": base, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    content = lines(5, "/v1/chat/completions", chat)
    wrong = {"custom_id": "wrong", "method": "POST", "url": "/v1/chat/completions", "body": {**chat, "model": "nobody"}}
    with client_of(server) as client:
        file = client.files.create(file=("b.jsonl", content + b"\n\n" + json.dumps(wrong).encode()), purpose="batch")
        made = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"for": "test"}
        )
        batch = ended(client, made.id)
        assert batch.status == "completed" and batch.metadata == {"for": "test"}
        assert batch.usage.output_tokens == 10 and batch.usage.total_tokens == batch.usage.input_tokens + 10 > 15
        assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (6, 5, 1)
        answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
        assert sorted(answer["custom_id"] for answer in answers) == [f"r{n}" for n in range(5)]
        assert all(answer["response"]["body"]["choices"] for answer in answers)
        (error,) = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
        assert error["custom_id"] == "wrong" and error["response"]["status_code"] == 404
        assert [each.id for each in client.batches.list()] == [batch.id]


def test_a_restart_goes_on_where_it_was_and_asks_nothing_twice(begin: Begin) -> None:
    server = begin()
    base = server.registry.bases()[0].name
    body = {"model": base, "prompt": "go on", "max_tokens": 16, "ignore_eos": True}
    with client_of(server) as client:
        file = client.files.create(file=("b.jsonl", lines(16, "/v1/completions", body)), purpose="batch")
        made = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
    for _ in range(2):
        time.sleep(0.3)
        server = begin()  # ends the one before, in the middle or at its end
    with client_of(server) as client:
        batch = ended(client, made.id)
        assert batch.status == "completed" and batch.request_counts.completed == 16
        assert batch.error_file_id is None
        answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert sorted(answer["custom_id"] for answer in answers) == sorted(f"r{n}" for n in range(16))


def test_a_cancelled_batch_begins_no_more(begin: Begin) -> None:
    server = begin()
    base = server.registry.bases()[0].name
    body = {"model": base, "prompt": "go on", "max_tokens": 60, "ignore_eos": True}
    with client_of(server) as client:
        file = client.files.create(file=("b.jsonl", lines(2000, "/v1/completions", body)), purpose="batch")
        made = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
        assert client.batches.cancel(made.id).status == "cancelling"
        batch = ended(client, made.id)
        assert batch.status == "cancelled" and batch.request_counts.completed < 2000
        with pytest.raises(openai.BadRequestError, match="cancelled"):
            client.batches.cancel(made.id)


def test_a_file_that_holds_no_requests_fails_with_the_lines(begin: Begin) -> None:
    good = json.loads(lines(1, "/v1/embeddings", {"model": "m", "input": "x"}))
    bad = [good, good, {**good, "custom_id": "b", "url": "/v1/completions"}, [1], {**good, "custom_id": ""}]
    content = "\n".join(json.dumps(row) for row in bad).encode() + b"\n\xff{"
    with client_of(begin()) as client:
        file = client.files.create(file=("b.jsonl", content), purpose="batch")
        made = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
        batch = ended(client, made.id)
        assert batch.status == "failed" and [error.line for error in batch.errors.data] == [2, 3, 4, 5, 6]
        with pytest.raises(openai.BadRequestError, match="not 'batch'"):
            other = client.files.create(file=("b.txt", b"x"), purpose="user_data")
            client.batches.create(input_file_id=other.id, endpoint="/v1/embeddings", completion_window="24h")
        with pytest.raises(openai.NotFoundError):
            client.batches.create(input_file_id="../../x", endpoint="/v1/embeddings", completion_window="24h")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), max_size=6), st.integers(0, 400))
@example([True], 1)  # only the newline is missing
def test_a_torn_line_is_as_if_it_had_not_been_written(
    tmp_path_factory: pytest.TempPathFactory, good: list[bool], cut: int
) -> None:
    root = tmp_path_factory.mktemp("batch")
    batches = Batches(root / "batches", Files(root / "files"))
    content = lines(len(good) or 1, "/v1/embeddings", {"model": "m", "input": "x"})
    file = batches.files.add(io.BytesIO(content), name="b", purpose="batch", owner="me")
    batch = batches.create(
        BatchRequest(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"), "me"
    )
    for number, well in enumerate(good):
        batches.note(batch, f"r{number}", 200 if well else 400, "id", {"n": number})
    path = root / "batches" / f"{batch.id}.out"
    if path.is_file():
        path.write_bytes(path.read_bytes()[: max(0, path.stat().st_size - cut)])
        whole = path.read_bytes().count(b"\n")
        done, well, _ = batches.answered(batch)
        assert well == whole and path.read_bytes().count(b"\n") == whole
        assert path.stat().st_size == 0 or path.read_bytes().endswith(b"\n")
        assert batches.answered(batch)[0] == done


def test_files_and_batches_are_their_owners_alone(tmp_path: Path) -> None:
    batches = Batches(tmp_path / "batches", Files(tmp_path / "files"))
    file = batches.files.add(io.BytesIO(b"{}"), name="../../etc/x\n", purpose="batch", owner="anna")
    assert file.filename == "x"
    batch = batches.create(
        BatchRequest(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"), "anna"
    )
    for ask in (
        lambda: batches.files.get(file.id, "ben"),
        lambda: batches.files.content(file.id, "ben"),
        lambda: batches.files.delete(file.id, "ben"),
        lambda: batches.get(batch.id, "ben"),
        lambda: batches.cancel(batch.id, "ben"),
        lambda: batches.files.get("../" + file.id, "anna"),
    ):
        with pytest.raises(NotFound):
            ask()
    assert batches.files.page("ben", Page()).data == [] and batches.page("ben", Page()).data == []
    with pytest.raises(Invalid):
        batches.lines(batch)


class Counter:
    """What the runner asks of a registry: nobody else is served."""

    closing = False
    taken = 0

    def bases(self) -> list[Any]:
        return []


async def answering(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the status that the request names, as a limit would say it."""
    asked = json.loads((await receive())["body"])
    headers = [(name.encode(), value.encode()) for name, value in asked.get("headers", {}).items()]
    await send({"type": "http.response.start", "status": asked["status"], "headers": headers})
    body = {"usage": {"prompt_tokens": 3, "total_tokens": 3}, "said": asked["status"]}
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


def kept(
    batches: Batches, owner: str, count: int, body: dict[str, Any], principal: Any = None, **options: Any
) -> Batch:
    file = batches.files.add(io.BytesIO(lines(count, "/v1/embeddings", body)), name="b", purpose="batch", owner=owner)
    request = {"input_file_id": file.id, "endpoint": "/v1/embeddings", "completion_window": "24h", **options}
    return batches.create(BatchRequest.model_validate(request), owner, principal)


def test_what_stops_one_owners_batch_holds_nobody_elses_up(tmp_path: Path) -> None:
    batches = Batches(tmp_path / "batches", Files(tmp_path / "files"))
    later = {"status": 429, "headers": {"retry-after": "3600"}}
    never = {"status": 429, "headers": {"x-should-retry": "false"}}
    anna = kept(batches, "anna", 20, later)
    broken = kept(batches, "broken", 3, {"status": 200})
    (tmp_path / "batches" / f"{broken.id}.out").mkdir()  # what it is answered cannot be written
    queued = kept(batches, "anna", 2, later)
    batches.cancel(queued.id, "anna")
    ben, second = kept(batches, "ben", 20, {"status": 200}), kept(batches, "ben", 2, never)

    async def work() -> None:
        runner = Runner(answering, Counter(), batches)  # type: ignore[arg-type]
        running = asyncio.create_task(runner.run())
        try:
            async with asyncio.timeout(120):
                while batches.get(second.id).status != "completed" or batches.get(queued.id).status != "cancelled":
                    assert not running.done()
                    await asyncio.sleep(0.02)
                # Not even its owner's other one, once nothing of it is to be asked.
                assert batches.get(anna.id).status == batches.get(broken.id).status == "in_progress"
                batches.cancel(anna.id, "anna")
                while batches.get(anna.id).status != "cancelled":
                    await asyncio.sleep(0.02)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(work())
    done = batches.get(ben.id)
    assert (done.status, done.request_counts.completed) == ("completed", 20)
    assert done.usage is not None and (done.usage.input_tokens, done.usage.total_tokens) == (60, 60)
    assert batches.get(second.id).request_counts.failed == 2  # waiting would not have helped


class LooksLong(Batches):
    """Its second list is still being made when the batch that is on it has ended."""

    def __init__(self, root: Path, files: Files) -> None:
        super().__init__(root, files)
        self.looks = 0
        self.looked, self.ended = threading.Event(), threading.Event()

    def open(self) -> list[tuple[str, Batch]]:
        found = super().open()
        self.looks += bool(found)
        if self.looks == 2 and found:
            self.looked.set()
            self.ended.wait(60)
        return found


def test_a_batch_that_ended_while_others_were_looked_for_is_not_asked_again(tmp_path: Path) -> None:
    batches = LooksLong(tmp_path / "batches", Files(tmp_path / "files"))
    made = kept(batches, "anna", 3, {"status": 200})
    asked = 0

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += 1
        while not batches.looked.is_set():
            await asyncio.sleep(0.01)
        await answering(scope, receive, send)

    async def work() -> None:
        runner = Runner(counting, Counter(), batches)  # type: ignore[arg-type]
        running = asyncio.create_task(runner.run())
        try:
            async with asyncio.timeout(120):
                while batches.get(made.id).status != "completed" or runner._active:
                    await asyncio.sleep(0.01)
                batches.ended.set()
                runner.wake()
                await asyncio.sleep(0.5)
        finally:
            batches.ended.set()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(work())
    assert (asked, batches.get(made.id).status) == (3, "completed")


def test_of_two_servers_over_one_home_each_has_its_own_batches_and_those_of_one_that_is_gone(tmp_path: Path) -> None:
    files = Files(tmp_path / "files")
    one, two, gone = (Batches(tmp_path / "batches", files) for _ in range(3))
    made = [kept(each, "anna", 4, {"status": 200}) for each in (one, two)]
    left = kept(gone, "ben", 4, {"status": 200})
    asked: list[Batches] = []

    def noting(batches: Batches) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            asked.append(batches)
            await answering(scope, receive, send)

        return answer

    async def work() -> None:
        counter: Any = Counter()
        running = [asyncio.create_task(Runner(noting(each), counter, each).run()) for each in (one, two)]
        async with asyncio.timeout(120):
            while any(one.get(each.id).status != "completed" for each in made):
                await asyncio.sleep(0.02)
            assert (one.get(left.id).status, asked.count(one), asked.count(two)) == ("validating", 4, 4)
            gone.claims.leave()  # As when its process ends.
            while one.get(left.id).status != "completed":
                await asyncio.sleep(0.02)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    asyncio.run(work())
    assert len(asked) == 12 and one.get(left.id).request_counts.completed == 4
    assert not list((tmp_path / "batches").glob(".server-*"))


class WritesLong(Batches):
    """One step of writing a batch down takes until `go`."""

    def __init__(self, root: Path, files: Files, step: str) -> None:
        super().__init__(root, files)
        self.step, self.begun, self.go = step, threading.Event(), threading.Event()

    def _at(self, step: str) -> None:
        if step == self.step:
            self.begun.set()
            assert self.go.wait(60)

    def note(self, batch: Batch, custom_id: str, status: int, request_id: str, body: Any) -> bool:
        self._at("note")
        return super().note(batch, custom_id, status, request_id, body)

    def finish(self, batch: Batch, status: Any) -> Batch:
        self._at("finish")
        return super().finish(batch, status)


@pytest.mark.parametrize("step", ["note", "finish"])
def test_a_server_that_stops_leaves_a_batch_only_when_what_it_writes_of_it_is_written(
    tmp_path: Path, step: str
) -> None:
    root, files = tmp_path / "batches", Files(tmp_path / "files")
    stopping, next_one = WritesLong(root, files, step), Batches(root, files)
    made = kept(stopping, "anna", 1, {"status": 200})
    asked = 0

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += 1
        await answering(scope, receive, send)

    async def work() -> None:
        counter: Any = Counter()
        running = asyncio.create_task(Runner(counting, counter, stopping).run())
        while not stopping.begun.is_set():
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait({running}, timeout=0.2)
        assert next_one.open() == []  # It is still the first one's.
        stopping.go.set()
        await asyncio.wait({running})
        again = asyncio.create_task(Runner(counting, counter, next_one).run())
        while next_one.get(made.id).status != "completed":
            await asyncio.sleep(0.01)
        again.cancel()
        await asyncio.wait({again})

    asyncio.run(work())
    done = next_one.get(made.id)
    assert done.output_file_id is not None
    assert (asked, len(files.content(done.output_file_id, "anna").read_bytes().splitlines())) == (1, 1)
    assert [about.id for about in files.page("anna", Page(), "batch_output").data] == [done.output_file_id]


@pytest.mark.parametrize("turns", range(5))
def test_it_ends_when_told_to_in_the_moment_a_batch_comes(tmp_path: Path, turns: int) -> None:
    batches = Batches(tmp_path / "batches", Files(tmp_path / "files"))

    async def work() -> bool:
        counter: Any = Counter()
        runner = Runner(answering, counter, batches)
        running = asyncio.create_task(runner.run())
        await asyncio.sleep(0.1)  # until it waits
        runner.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running}, timeout=30)
        told, counter.closing = running.done(), True
        await asyncio.wait({running})
        return told

    assert asyncio.run(work())


def test_a_batchs_file_may_go_once_it_is_made(tmp_path: Path) -> None:
    batches = Batches(tmp_path / "batches", Files(tmp_path / "files"))
    made = kept(batches, "anna", 3, {"status": 200})
    batches.files.delete(made.input_file_id, "anna")

    async def work() -> None:
        running = asyncio.create_task(Runner(answering, Counter(), batches).run())  # type: ignore[arg-type]
        async with asyncio.timeout(120):
            while batches.get(made.id).status not in ("completed", "failed"):
                await asyncio.sleep(0.02)
        running.cancel()

    asyncio.run(work())
    ended = batches.get(made.id)
    assert (ended.status, ended.request_counts.completed) == ("completed", 3)
    assert [each.name for each in (tmp_path / "batches").glob("batch_*")] == [f"{made.id}.json"]


def test_what_was_not_asked_in_time_is_said_and_files_go_when_they_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = Batches(tmp_path / "batches", Files(tmp_path / "files"))
    week = {"anchor": "created_at", "seconds": 7 * 24 * 3600}
    made = kept(batches, "anna", 30, {"status": 429}, output_expires_after=week)
    batches.note(made, "r0", 200, "id", {"usage": {"prompt_tokens": 1}})
    batches.update(made.id, expires_at=int(time.time()) - 1)

    async def work() -> None:
        running = asyncio.create_task(Runner(answering, Counter(), batches).run())  # type: ignore[arg-type]
        async with asyncio.timeout(120):
            while batches.get(made.id).status != "expired":
                await asyncio.sleep(0.02)
        running.cancel()

    asyncio.run(work())
    ended = batches.get(made.id)
    assert ended.error_file_id is not None and ended.output_file_id is not None
    said = batches.files.content(ended.error_file_id, "anna").read_text().splitlines()
    assert sorted(json.loads(line)["custom_id"] for line in said) == sorted(f"r{n}" for n in range(1, 30))
    assert {json.loads(line)["error"]["code"] for line in said} == {"batch_expired"}
    kept_until = batches.files.get(ended.output_file_id, "anna").expires_at
    assert kept_until is not None and abs(kept_until - time.time() - week["seconds"]) < 300
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 8 * 24 * 3600)
    with pytest.raises(NotFound):
        batches.files.get(ended.output_file_id, "anna")
    assert [each.purpose for each in batches.files.page("anna", Page()).data] == ["batch"]
    assert not list((tmp_path / "files").glob(f"*{ended.output_file_id}*"))


def test_pages_of_a_list_go_both_ways(tmp_path: Path) -> None:
    files = Files(tmp_path)
    soon = Expiry(anchor="created_at", seconds=3600)
    for number in range(7):
        files.add(io.BytesIO(b"x"), name=f"{number}", purpose="user_data", owner="me", expires=soon)
    whole = [each.id for each in files.page("me", Page()).data]
    found: list[str] = []
    while True:
        page = files.page("me", Page(limit=3, after=found[-1] if found else None))
        found += [each.id for each in page.data]
        if not page.has_more:
            break
    assert found == whole and len(whole) == 7
    back = files.page("me", Page(limit=3, before=whole[5]))
    assert [each.id for each in back.data] == whole[2:5] and back.has_more
    assert [each.id for each in files.page("me", Page(limit=3, before=whole[2])).data] == whole[:2]
    assert files.page("me", Page(order="asc")).data[0].id == whole[-1]


class Crashing:
    """An application over an engine that one request ends, with all that are beside it.

    Args:
        dies: told before: the whole server is gone then, and what is on disk stays as it is.
        together: the first time some are beside it, whoever is quicker.
    """

    def __init__(self, dies: Callable[[], object] | None = None, *, together: bool = True) -> None:
        self._dies, self._together = dies, together
        self._under_way: set[asyncio.Future[None]] = set()
        self.beside: list[int] = []
        """How many were beside it, each time."""
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        asked = json.loads((await receive())["body"])
        self.asked.append(asked["input"])
        crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(crashed)
        if asked["input"] == "poison":
            while self._together and len(self._under_way) < 4:
                await asyncio.sleep(0.01)
            self._together = False
            self.beside.append(len(self._under_way) - 1)
            if self._dies is not None:
                self._dies()
                await asyncio.Event().wait()
            for each in self._under_way:
                each.cancel()
        while self._together and not crashed.done():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        self._under_way.discard(crashed)
        status = 503 if crashed.cancelled() else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"retry-after", b"0")]})
        body = {"error": {"code": "engine_restarted"}} if status == 503 else {"said": asked["input"]}
        await send({"type": "http.response.body", "body": json.dumps(body, separators=(",", ":")).encode()})


def with_poison(root: Path, count: int = 12) -> tuple[Batches, Batch]:
    batches = Batches(root / "batches", Files(root / "files"))
    inputs = ["poison" if number == 2 else f"sound {number}" for number in range(count)]
    rows = [
        {"custom_id": f"r{number}", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": text}}
        for number, text in enumerate(inputs)
    ]
    content = "\n".join(map(json.dumps, rows)).encode()
    file = batches.files.add(io.BytesIO(content), name="b", purpose="batch", owner="anna")
    request = BatchRequest(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    return batches, batches.create(request, "anna")


def check_poison(batches: Batches, identity: str) -> None:
    done = batches.get(identity)
    assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("completed", 11, 1)
    assert done.error_file_id is not None
    (error,) = [json.loads(line) for line in batches.files.content(done.error_file_id, "anna").read_text().splitlines()]
    assert error["custom_id"] == "r2" and error["response"]["body"]["error"]["code"] == "engine_crashes"


async def work_through(app: Any, batches: Batches, until: Callable[[], bool], *principal: Any) -> None:
    running = asyncio.create_task(Runner(app, Counter(), batches, *principal).run())  # type: ignore[arg-type]
    async with asyncio.timeout(240):
        while not until():
            assert not running.done()
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_request_that_ends_the_engine_is_given_up_and_those_beside_it_are_not(tmp_path: Path) -> None:
    batches, made = with_poison(tmp_path)
    app = Crashing()
    asyncio.run(work_through(app, batches, lambda: batches.get(made.id).status == "completed"))
    check_poison(batches, made.id)
    assert app.asked.count("poison") == 3 and app.beside[0] > 0 and app.beside[1:] == [0, 0]
    assert not list((tmp_path / "batches").glob("*.try"))


def test_a_request_that_ends_the_whole_server_is_given_up_after_the_restarts(tmp_path: Path) -> None:
    batches, made = with_poison(tmp_path / "0")
    beside = []
    for number in range(3):
        # What is on disk in the moment of its death is all that the next one has.
        follows = tmp_path / str(number + 1)
        app = Crashing(partial(shutil.copytree, tmp_path / str(number), follows), together=number == 0)
        asyncio.run(work_through(app, batches, partial(bool, app.beside)))
        beside += app.beside
        for lock in (follows / "batches").glob(".server-*"):
            shutil.rmtree(lock)
        batches = Batches(follows / "batches", Files(follows / "files"))
    app = Crashing(together=False)
    asyncio.run(work_through(app, batches, lambda: batches.get(made.id).status == "completed"))
    check_poison(batches, made.id)
    assert "poison" not in app.asked and beside[0] > 0 and beside[1:] == [0, 0]


def test_a_file_of_empty_lines_is_not_read_to_its_end(tmp_path: Path) -> None:
    files = Files(tmp_path / "files")
    batches = Batches(tmp_path / "batches", files)
    file = files.add(io.BytesIO(b"\n" * 200_000), name="b", purpose="batch", owner="anna")
    asked = BatchRequest(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    with pytest.raises(Invalid) as wrong:
        batches.lines(batches.create(asked, "anna", None))
    assert wrong.value.problems[0].line == 100_001


def test_a_batch_whose_record_cannot_be_read_now_is_nobody_elses(tmp_path: Path) -> None:
    batches = Batches(tmp_path / "batches", Files(tmp_path / "files"))
    made, other = (kept(batches, "anna", 1, {"status": 200}) for _ in range(2))
    batches.note(made, "r0", 200, "id", {})
    record = tmp_path / "batches" / f"{made.id}.json"
    record.rename(tmp_path / "aside")
    record.mkdir()
    asks: list[Callable[[], object]] = [
        partial(batches.maker, made.id),
        partial(batches.owner, made.id),
        partial(batches.take, made.id),
        partial(batches.finish, made, "completed"),
    ]
    for ask in asks:
        with pytest.raises(OSError):
            ask()
    for number, odd in enumerate(("[", "[1]", '{"owner": "anna"}', '{"owner": "anna", "batch": {}}')):
        (tmp_path / "batches" / f"batch_{24 * str(number)}.json").write_text(odd)
    batches.sweep()
    assert [each.id for each in batches.page("anna", Page()).data] == [other.id]
    assert [each.id for _, each in batches.open()] == [other.id]
    record.rmdir()
    for ask in asks:
        with pytest.raises(NotFound) if ask is not asks[2] else nullcontext():
            ask()
    (tmp_path / "aside").rename(record)
    assert batches.owner(made.id) == "anna" and len(batches.open()) == 2
    assert not batches.files.page("", Page(), "batch_output").data


def test_where_its_end_cannot_be_written_down_its_answers_are_not_kept_twice(tmp_path: Path) -> None:
    batches = Batches(tmp_path / "batches", Files(tmp_path / "files"))
    made = kept(batches, "anna", 2, {"status": 200})
    batches.note(made, "r0", 200, "id", {})
    batches.note(made, "r1", 400, "id", {})
    in_the_way = tmp_path / "batches" / f".{made.id}.json.new"
    in_the_way.mkdir()
    for _ in range(3):
        with pytest.raises(OSError):
            batches.finish(made, "completed")
    in_the_way.rmdir()
    done = batches.finish(made, "completed")
    files = batches.files.page("anna", Page(), "batch_output").data
    assert {each.id for each in files} == {done.output_file_id, done.error_file_id} and len(files) == 2


def test_a_batch_that_expired_is_not_completed_by_a_restart(tmp_path: Path) -> None:
    batches = Batches(tmp_path / "batches", Files(tmp_path / "files"))
    made = kept(batches, "anna", 3, {"status": 429})
    batches.note(made, "r0", 400, "id", {})
    batches.update(made.id, expires_at=int(time.time()) - 1, status="finalizing")
    batches.give_up(made, ["r1", "r2"], "batch_expired", "It was not asked.")  # and then the server was killed
    asyncio.run(work_through(answering, batches, lambda: batches.get(made.id).status in ("completed", "expired")))
    ended = batches.get(made.id)
    assert (ended.status, ended.request_counts.failed, ended.request_counts.total) == ("expired", 1, 3)
    assert ended.error_file_id is not None
    said = batches.files.content(ended.error_file_id, "anna").read_text().splitlines()
    assert [json.loads(line)["custom_id"] for line in said] == ["r0", "r1", "r2"]


class Named:
    """Whom a key stands for."""

    key, user = "key-1", "ben"

    def behalf_of(self, user: str | None) -> tuple[str, str | None]:
        return self.key, user


class ReadsBadly(Batches):
    """The first time that one of its lines is read too many files are open."""

    failed = False

    def line(self, batch: Batch, place: Place) -> Line:
        if place.custom_id == "r3" and not self.failed:
            self.failed = True
            raise OSError(errno.EMFILE, "too many open files")
        return super().line(batch, place)


def test_what_cannot_be_read_for_a_moment_is_no_requests_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allmend.serving.batch_runner._AGAIN", 0.01)
    batches = ReadsBadly(tmp_path / "batches", Files(tmp_path / "files"))
    made = kept(batches, "anna", 6, {"status": 200}, Named())
    failures: list[Exception] = [Unavailable("the database is locked"), OSError(errno.EMFILE, "too many open files")]

    def principal(key: str) -> Any:
        if failures:
            raise failures.pop()
        return Named()

    who: list[Any] = []

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        who.append(scope[MARK])
        await answering(scope, receive, send)

    asyncio.run(work_through(noting, batches, lambda: batches.get(made.id).status == "completed", principal))
    counts = batches.get(made.id).request_counts
    assert (counts.total, counts.completed, counts.failed) == (6, 6, 0)
    assert set(who) == {("key-1", "ben")} and batches.failed and not failures


def test_a_batch_whose_file_cannot_be_read_any_more_ends_and_holds_no_other_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = Batches(tmp_path / "batches", Files(tmp_path / "files"))
    broken, sound = (kept(batches, "anna", 2, {"status": 200}) for _ in range(2))
    batches.update(broken.id, created_at=broken.created_at - 10)  # so that it comes first
    batches.note(broken, "r0", 200, "id", {})
    content = tmp_path / "batches" / f"{broken.id}.in"
    content.unlink()
    content.mkdir()
    asyncio.run(work_through(answering, batches, lambda: batches.get(sound.id).status == "completed"))
    assert batches.get(broken.id).status == "validating"
    batches.update(broken.id, expires_at=int(time.time()) - 1)
    for pause in ("_AGAIN", "_LOOK"):
        monkeypatch.setattr(f"allmend.serving.batch_runner.{pause}", 0.01)
    asyncio.run(work_through(answering, batches, lambda: batches.get(broken.id).status == "expired"))
    ended = batches.get(broken.id)
    assert ended.output_file_id is not None and ended.errors is not None
    assert [error.code for error in ended.errors.data] == ["unreadable_file"]


@pytest.mark.parametrize("dies", [False, True])
def test_what_comes_later_and_ends_engine_or_server_is_not_blamed_on_a_batchs_request(
    tmp_path: Path, dies: bool
) -> None:
    batches = Batches(tmp_path / "batches", Files(tmp_path / "files"))
    made = kept(batches, "anna", 1, {"status": 200})
    registry, asked, found = Counter(), 0, Tries(tmp_path / "none")

    async def beside_poison(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked, found
        asked += 1
        registry.taken += 1
        if asked > MOST:
            await answering(scope, receive, send)
            return
        await asyncio.sleep(0)
        registry.taken += 1  # Somebody else's, which ends them both.
        if dies:
            while (found := batches.tries(made)).of("r0").alone:
                await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 503, "headers": [(b"retry-after", b"0")]})
        await send({"type": "http.response.body", "body": b'{"error":{"code":"engine_restarted"}}'})

    async def work() -> None:
        running = asyncio.create_task(Runner(beside_poison, registry, batches).run())  # type: ignore[arg-type]
        async with asyncio.timeout(240):
            while batches.get(made.id).status != "completed":
                await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(work())
    assert (asked, batches.get(made.id).request_counts.completed) == (MOST + 1, 1)
    assert found.of("r0").ends == (MOST if dies else 0)
