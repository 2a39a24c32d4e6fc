"""Routes beside text held to keys: scopes, owners, the ledger, and batches on their maker's account."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

import encoders
from allmend import database
from allmend.access import accounts, keys, prices, usage
from allmend.access.limits import Limits
from allmend.engines.speak import Sound
from allmend.engines.transcribe import Heard, Hearing, Segment
from allmend.nouns.model import Model
from allmend.serving.server import Server
from allmend.verbs.index import index
from allmend.verbs.serve import start

NORMS = """
[[must_not]]
name = "no phone numbers"
on = "held-out"
pattern = '\\d{3}-\\d{4}'
"""


class Voice:
    """Says everything with a tenth of a second of silence a letter."""

    program, voices = "silence", ()

    def speak(self, text: str, *, speed: float = 1.0, voice: str | None = None) -> Sound:
        return Sound(bytes(2 * 800 * len(text)), 8000)

    def close(self) -> None: ...


class Ear:
    """Hears one word in every recording, which it takes for 16-bit samples, 8000 a second; waits while it is held."""

    def __init__(self) -> None:
        self.free, self.hearing, self.most = threading.Event(), 0, 0
        self.free.set()

    def hear(self, recording: bytes, hearing: Hearing) -> Heard:
        if recording.startswith(b"worse"):
            return Heard("en", len(recording) / 16000, self._failing())
        self.hearing += 1
        self.most = max(self.most, self.hearing)
        assert self.free.wait(120)
        self.hearing -= 1
        return Heard("en", len(recording) / 16000, iter([Segment(0, 0.0, 1.0, " Hello.", (1, 2, 3))]))

    def _failing(self) -> Iterator[Segment]:
        yield Segment(0, 0.0, 1.0, " Hello.", (1, 2, 3))
        raise RuntimeError("a secret")

    def close(self) -> None: ...


def _about(name: str) -> Model:
    fields = {"name": name, "path": ".", "digest": "0" * 64, "format": "safetensors", "source": "folder"}
    return Model.model_construct(**fields, base=None)


@pytest.fixture(scope="module")
def server(folders: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for keys, over a language model, an embedding model and an index."""
    root = tmp_path_factory.mktemp("more-keys")
    embed = str(encoders.folder(root / "embed"))
    (root / "notes").mkdir()
    (root / "notes" / "a.txt").write_text("The train leaves at nine.")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLMEND_HOME", str(root / "home"))
        patch.delenv("ALLMEND_DATABASE", raising=False)
        database.forget()
        keys.forget()
        for name in ("anna", "ben"):
            accounts.create(name)
        index(root / "notes", name="notes", model=embed)
        (root / "norms.toml").write_text(NORMS)
        options: dict[str, Any] = {"dtype": "float32", "memory": "64M", "isolate": False, "index": ["notes"]}
        options["norms"] = str(root / "norms.toml")
        with start([str(folders.base), embed], port=0, with_keys=True, **options) as running:
            running.registry.services.add(_about("voice"), "speak", Voice())
            running.registry.services.add(_about("ear"), "transcribe", Ear())
            yield running
        database.forget()
        keys.forget()


def client(server: Server, owner: str, *scopes: str) -> OpenAI:
    key = keys.create(owner, "test", scopes=scopes).text
    return OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def model(server: Server) -> str:
    return server.registry.services.all()[0].name


def counted() -> int:
    return sum(row["prompt"] for row in usage.rows() if "embed" in row["route"])


def rows_of(asking: OpenAI) -> list[dict[str, Any]]:
    return [row for row in usage.rows() if row["key_id"] == asking.api_key.split("_")[1]]


def test_what_is_no_text_is_counted_in_its_own_unit(server: Server) -> None:
    prices.put("voice", prompt="15", completion="0")
    with client(server, "anna", "serve:audio", "serve:embeddings", "serve:search") as asking:
        asking.audio.speech.create(model="voice", input="Good morning", voice="alloy", response_format="wav")
        asking.audio.transcriptions.create(model="ear", file=("a.wav", bytes(16000 * 7)))
        events = asking.audio.transcriptions.create(model="ear", file=("a.wav", bytes(16000 * 5)), stream=True)
        assert [event.type for event in events][-1] == "transcript.text.done"
        asking.moderations.create(input=["Call 555-1234.", "No."])
        found = asking.vector_stores.search("notes", query="When does the train leave?")
        assert found.data
        used = {(row["route"], row["model"], row["unit"], row["prompt"], row["state"]) for row in rows_of(asking)}
        tokens = server.registry.services.all()[0].engine.rows(["When does the train leave?"], "query").count
        assert used == {
            ("/v1/audio/speech", "voice", "characters", 12, "settled"),
            ("/v1/audio/transcriptions", "ear", "seconds", 7, "settled"),
            ("/v1/audio/transcriptions", "ear", "seconds", 5, "settled"),
            ("/v1/moderations", "norms", "characters", 17, "settled"),
            ("/v1/vector_stores/search", model(server), "tokens", tokens, "settled"),
        }
        assert [row["cost"] for row in rows_of(asking) if row["model"] == "voice"] == ["0.00018"]
    sums = {(row.group["model"], row.unit, row.prompt) for row in usage.summary(["model"])}
    assert {("voice", "characters", 12), ("norms", "characters", 17), ("ear", "seconds", 12)} <= sums


def test_a_transcription_that_fails_on_the_way_says_so_in_its_stream(server: Server) -> None:
    with client(server, "anna", "serve:audio") as asking:
        events = asking.audio.transcriptions.create(model="ear", file=("a.wav", b"worse" * 3200), stream=True)
        assert next(events).delta == "Hello."
        with pytest.raises(openai.APIError, match="inside the server") as failed:
            list(events)
        assert "secret" not in str(failed.value)


def test_limits_of_tokens_hold_for_embeddings_at_once(server: Server) -> None:
    limits = Limits(tokens_per_day=100)
    key = keys.create("anna", "narrow", scopes=["serve:embeddings"], limits=limits).text
    texts = ["the sea and the wind " * 2] * 2
    count = server.registry.services.all()[0].engine.rows(texts, "document").count
    assert 10 <= count < 100

    def ask(number: int) -> int:
        with OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as asking:
            try:
                return asking.embeddings.create(model=model(server), input=texts).usage.prompt_tokens
            except openai.RateLimitError as error:
                assert error.code == "rate_limit_exceeded"
                return 0

    with ThreadPoolExecutor(12) as threads:
        told = sum(threads.map(ask, range(24)))
    written = sum(row["prompt"] for row in usage.rows() if row["key_id"] == key.split("_")[1])
    assert told == written == 100 // count * count


def test_recordings_wait_in_a_queue_and_hold_up_nothing_else(server: Server) -> None:
    """More than the server has threads: who may wait does, the rest is told when to come again, and chat goes on."""
    ear = server.registry.services.get("ear").engine  # type: ignore[union-attr]
    key = keys.create("anna", "test", scopes=["serve:audio", "serve:chat"]).text
    other = keys.create("ben", "test", scopes=["serve:chat"]).text
    gate = server.desk.gate_of("ear", 4)
    ear.free.clear()

    def hear(_: int) -> httpx.Response:
        form = {"files": {"file": ("a.wav", bytes(1600))}, "data": {"model": "ear"}}
        return httpx.post(f"{server.url}/v1/audio/transcriptions", headers=bearer(key), timeout=120, **form)

    with ThreadPoolExecutor(60) as threads:
        asked = [threads.submit(hear, number) for number in range(60)]
        until = time.monotonic() + 60
        while gate.waiting + gate.refused < 56 and time.monotonic() < until:
            time.sleep(0.01)
        message = {"model": server.registry.bases()[0].name, "messages": [{"role": "user", "content": "Hi " * 2000}]}
        for each in (key, other):  # Both need a thread: to look up the key, and to read a long prompt.
            keys.forget()
            said = httpx.post(f"{server.url}/v1/chat/completions", headers=bearer(each), json=message, timeout=60)
            assert said.status_code == 400 and said.json()["error"]["code"] == "context_length_exceeded"
        ear.free.set()
        answers = [each.result() for each in asked]
    assert ear.most == 4
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "overloaded" and int(refused.headers["retry-after"]) >= 1
    places = {int(answer.headers["x-queue-place"]) for answer in answers if answer.status_code == 200}
    assert 0 in places and max(places) > 1
    assert (gate.waiting, gate._running) == (0, 0)


def test_a_user_behind_a_key_has_files_and_batches_of_its_own_within_its_limits(server: Server) -> None:
    body = {"model": model(server), "input": "one two"}
    count = server.registry.services.all()[0].engine.rows([body["input"]], "document").count
    limits = Limits.of({"forwarded_users": True, "each_user": {"tokens_per_day": 2 * count - 1}})
    key = keys.create("anna", "test", scopes=["serve:files", "serve:embeddings"], limits=limits).text
    line = {"method": "POST", "url": "/v1/embeddings", "body": body}
    too_long = {**line, "body": {**body, "input": "one two" * 2}}
    lines = [{"custom_id": "fits", **line}, {"custom_id": "never fits", **too_long}]
    content = "\n".join(json.dumps(each) for each in lines).encode()

    def client(user: str) -> OpenAI:
        headers = {"x-openwebui-user-id": user}
        return OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, default_headers=headers)

    with client("u1") as one, client("u2") as two:
        file = one.files.create(file=("b.jsonl", content), purpose="batch")
        made = one.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
        over = ended(one, made.id)
        assert (over.request_counts.completed, over.request_counts.failed) == (1, 1)
        refused = json.loads(one.files.content(over.error_file_id).text)
        assert refused["custom_id"] == "never fits" and refused["response"]["status_code"] == 429
        assert [each.id for each in two.files.list()] == []
        with pytest.raises(openai.NotFoundError):
            two.batches.retrieve(made.id)
        with pytest.raises(openai.RateLimitError):
            one.embeddings.create(**body)
        two.embeddings.create(**body)
        one.files.delete(file.id)
    assert {row["user"] for row in usage.rows() if row["key_id"] == key.split("_")[1]} == {"u1", "u2"}


def test_a_scope_on_another_model_covers_nothing_here(server: Server) -> None:
    with client(server, "anna", "serve:embeddings:another") as asking, pytest.raises(openai.PermissionDeniedError):
        asking.embeddings.create(model=model(server), input="x")


def test_documents_need_their_own_scope_in_chat_too(server: Server) -> None:
    asked: dict[str, Any] = {
        "model": server.registry.bases()[0].name,
        "messages": [{"role": "user", "content": "train"}],
        "tools": [{"type": "file_search", "vector_store_ids": ["notes"]}],
        "max_tokens": 2,
    }
    with client(server, "anna", "serve:chat") as asking, pytest.raises(openai.PermissionDeniedError):
        asking.chat.completions.create(**asked)
    elsewhere = client(server, "anna", "serve:chat", "serve:search:others")
    with elsewhere as asking, pytest.raises(openai.PermissionDeniedError):
        asking.chat.completions.create(**asked)
    with client(server, "anna", "serve:chat", "serve:search:notes") as asking:
        assert asking.chat.completions.create(**asked).model_extra["allmend"]["searched"]["results"]


def test_a_key_that_is_narrowed_to_a_store_reaches_that_one_alone(server: Server) -> None:
    with client(server, "anna", "serve:search", "serve:files") as all_of_it:
        mine = all_of_it.vector_stores.create(name="mine")
        other = all_of_it.vector_stores.create(name="other")
        file = all_of_it.files.create(file=("a.txt", b"A secret."), purpose="assistants")
        all_of_it.vector_stores.files.create(other.id, file_id=file.id)
        with client(server, "anna", "serve:chat", f"serve:search:{mine.id}", "serve:search:notes") as narrow:
            assert {store.id for store in narrow.vector_stores.list()} == {mine.id, "notes"}
            assert narrow.vector_stores.update(mine.id, name="still mine").name == "still mine"
            stores = narrow.vector_stores
            for attempt in (
                lambda: stores.create(name="more"),
                lambda: stores.retrieve(other.id),
                lambda: stores.update(other.id, name="x"),
                lambda: stores.search(other.id, query="secret"),
                lambda: stores.files.list(other.id),
                lambda: stores.files.retrieve(file.id, vector_store_id=other.id),
                lambda: stores.files.content(file.id, vector_store_id=other.id),
                lambda: stores.files.update(file.id, vector_store_id=other.id, attributes={}),
                lambda: stores.files.create(other.id, file_id=file.id),
                lambda: stores.files.delete(file.id, vector_store_id=other.id),
                lambda: stores.file_batches.create(other.id, file_ids=[file.id]),
                lambda: stores.delete(other.id),
            ):
                with pytest.raises(openai.PermissionDeniedError):
                    attempt()
            asked: dict[str, Any] = {
                "model": server.registry.bases()[0].name,
                "messages": [{"role": "user", "content": "train"}],
                "max_tokens": 2,
            }
            for store, allowed in (("notes", True), (other.id, False)):
                tool = {"type": "file_search", "vector_store_ids": [store]}
                if allowed:
                    assert narrow.chat.completions.create(**asked, tools=[tool]).choices
                else:
                    with pytest.raises(openai.PermissionDeniedError):
                        narrow.chat.completions.create(**asked, tools=[tool])
        for store in (mine, other):
            all_of_it.vector_stores.delete(store.id)


def test_what_is_put_into_a_store_is_charged_and_within_the_limits(server: Server) -> None:
    engine = server.registry.services.all()[0].engine
    text = "The sea and the wind."
    tokens = engine.rows([text]).count
    limits = Limits(tokens_per_day=2 * tokens)
    key = keys.create("anna", "narrow", scopes=["serve:search", "serve:files"], limits=limits).text
    with OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as asking:
        ids = [asking.files.create(file=(f"{n}.txt", text.encode()), purpose="assistants").id for n in range(4)]
        store = asking.vector_stores.create(name="sea")
        gate = server.desk.gate_of(model(server), 32)
        before = gate._seconds
        asking.vector_stores.files.create(store.id, file_id=ids[0])
        assert gate._seconds == before  # How long files take says nothing of how long an embedding does.
        batch = asking.vector_stores.file_batches.create(store.id, file_ids=ids[1:])
        assert (batch.file_counts.completed, batch.file_counts.failed) == (1, 2)
        states = [asking.vector_stores.files.retrieve(each, vector_store_id=store.id) for each in ids]
        assert [state.status for state in states] == ["completed", "completed", "failed", "failed"]
        assert "Limit reached" in states[2].last_error.message
        with pytest.raises(openai.RateLimitError):
            asking.vector_stores.create(name="more", file_ids=ids[:1])
        assert [each.id for each in asking.vector_stores.list() if each.id != "notes"] == [store.id]
        used = [(row["route"], row["prompt"], row["state"]) for row in rows_of(asking) if row["prompt"]]
        assert used == [("/v1/vector_stores/files", tokens, "settled")] * 2
        asking.vector_stores.delete(store.id)


def ended(asking: OpenAI, identity: str) -> Any:
    until = time.monotonic() + 300
    while (batch := asking.batches.retrieve(identity)).status not in ("completed", "failed"):
        assert time.monotonic() < until, batch
        time.sleep(0.05)
    return batch


def test_a_batch_is_on_its_makers_account_and_within_its_scopes(server: Server, tmp_path: Path) -> None:
    line = {"method": "POST", "url": "/v1/embeddings", "body": {"model": model(server), "input": "hello"}}
    content = "\n".join(json.dumps({"custom_id": f"r{n}", **line}) for n in range(3)).encode()
    with client(server, "anna", "serve:files", "serve:embeddings") as may, client(server, "ben", "serve:files") as no:
        before, ends = counted(), {}
        for asking in (may, no):
            file = asking.files.create(file=("b.jsonl", content), purpose="batch")
            made = asking.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
            ends[asking] = ended(asking, made.id)
        assert ends[may].request_counts.completed == 3 and ends[no].request_counts.failed == 3
        refused = json.loads(no.files.content(ends[no].error_file_id).text.splitlines()[0])
        assert refused["response"]["status_code"] == 403
        lines = [json.loads(each) for each in may.files.content(ends[may].output_file_id).text.splitlines()]
        spent = sum(each["response"]["body"]["usage"]["prompt_tokens"] for each in lines)
        assert counted() - before == spent > 0
        with pytest.raises(openai.NotFoundError):
            no.files.retrieve(ends[may].output_file_id)
        with pytest.raises(openai.NotFoundError):
            no.batches.retrieve(ends[may].id)


def test_what_a_forwarded_user_leaves_here_is_theirs_on_every_route_and_in_batches(server: Server) -> None:
    limits = Limits(forwarded_users=True)
    key = keys.create("anna", "front", scopes=["serve:files", "serve:search", "serve:chat"], limits=limits).text

    def user(name: str) -> OpenAI:
        headers = {"X-OpenWebUI-User-Id": name}
        return OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, default_headers=headers)

    with user("one") as one, user("two") as two:
        file = one.files.create(file=("a.txt", b"A secret of one."), purpose="assistants")
        store = one.vector_stores.create(name="mine", file_ids=[file.id])
        upload = one.uploads.create(bytes=1, filename="a", mime_type="text/plain", purpose="user_data")
        assert [each.id for each in one.files.list()] == [file.id] and one.files.content(file.id).read()
        assert store.id in {each.id for each in one.vector_stores.list()}
        for ask in (
            lambda: two.files.retrieve(file.id),
            lambda: two.files.delete(file.id),
            lambda: two.vector_stores.retrieve(store.id),
            lambda: two.uploads.parts.create(upload.id, data=b"x"),
            lambda: two.uploads.complete(upload.id, part_ids=[]),
        ):
            with pytest.raises(openai.NotFoundError):
                ask()
        body = {
            "model": server.registry.bases()[0].name,
            "messages": [{"role": "user", "content": "secret"}],
            "tools": [{"type": "file_search", "vector_store_ids": [store.id]}],
            "max_tokens": 2,
        }
        line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
        given = one.files.create(file=("b.jsonl", json.dumps(line).encode()), purpose="batch")
        made = one.batches.create(input_file_id=given.id, endpoint="/v1/chat/completions", completion_window="24h")
        done = ended(one, made.id)
        assert (done.request_counts.completed, done.request_counts.failed) == (1, 0)
        assert "secret of one" in one.files.content(done.output_file_id).text
        rows = [row for row in usage.rows() if row["key_id"] == key.split("_")[1]]
        assert {row["user"] for row in rows} == {"one"} and "/v1/chat/completions" in {row["route"] for row in rows}
        assert one.vector_stores.delete(store.id).deleted and one.files.delete(file.id).deleted
