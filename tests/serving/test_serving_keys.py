"""A server that asks for keys: scopes as a matrix, limits under concurrency, users behind a key, the ledger."""

from __future__ import annotations

import shutil
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from openai import APIConnectionError, DefaultHttpxClient, OpenAI, RateLimitError

from allmend import database
from allmend.access import accounts, audit, keys, usage, users
from allmend.access.limits import Limits
from allmend.errors import InputError, NotFound, Refused, Unavailable, UsageError
from allmend.serving.faults import Fault
from allmend.serving.gate import Gate, Overloaded
from allmend.serving.server import Server
from allmend.verbs.serve import start

Make = Callable[..., str]


@pytest.fixture(scope="module")
def server(folders: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over a database of its own, which asks for keys."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLMEND_HOME", str(tmp_path_factory.mktemp("keys") / "home"))
        patch.delenv("ALLMEND_DATABASE", raising=False)
        database.forget()
        keys.forget()
        accounts.create("anna")
        adapters = [f"{name}={folder}" for name, folder in folders.adapters.items()]
        options: dict[str, Any] = {"dtype": "float32", "memory": "64M", "isolate": False, "context": 512}
        with start(str(folders.base), adapter=adapters, port=0, with_keys=True, **options) as running:
            yield running
        database.forget()
        keys.forget()


@pytest.fixture(scope="module")
def base(server: Server) -> str:
    """Name of the base model."""
    return server.registry.bases()[0].name


@pytest.fixture
def make(server: Server) -> Make:
    """Makes keys of anna."""

    def making(*scopes: str, **limits: Any) -> str:
        return keys.create("anna", "test", scopes=scopes or ["serve:chat"], limits=Limits.of(limits)).text

    return making


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def bearer(key: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", **more}


def body(base: str, **more: Any) -> dict[str, Any]:
    return {"model": base, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, **more}


ROUTES = [
    ("POST", "/v1/chat/completions", {"serve:chat", "serve:admin"}),
    ("POST", "/v1/completions", {"serve:chat", "serve:admin"}),
    ("POST", "/v1/responses", {"serve:chat", "serve:admin"}),
    ("POST", "/v1/embeddings", {"serve:embeddings", "serve:admin"}),
    ("POST", "/v1/audio/speech", {"serve:audio", "serve:admin"}),
    ("POST", "/v1/files", {"serve:files", "serve:admin"}),
    ("POST", "/v1//files/", {"serve:files", "serve:admin"}),
    ("POST", "/v1/uploads", {"serve:files", "serve:admin"}),
    ("POST", "/rerank", {"serve:embeddings", "serve:admin"}),
    ("GET", "/v1/audio/voices", {"serve:audio", "serve:admin"}),
    ("GET", "/v1/models", {"serve:read", "serve:chat", "serve:embeddings", "serve:audio", "serve:files",
                           "serve:search", "serve:admin"}),
    ("GET", "/metrics", {"serve:metrics", "serve:admin"}),
    ("POST", "/v1/load_lora_adapter", {"serve:admin"}),
    ("POST", "/v1/unload_lora_adapter", {"serve:admin"}),
    ("POST", "/v1/replace_model", {"serve:admin"}),
    ("POST", "/v1/nothing", {"serve:admin"}),
]  # fmt: skip
GRANTS = ("serve:chat", "serve:embeddings", "serve:audio", "serve:files", "serve:search", "serve:read",
          "serve:metrics", "serve:admin", "hub:admin", "app:run", "access:admin", "*")  # fmt: skip


def test_scopes_are_a_matrix(http: httpx.Client, make: Make) -> None:
    for grant in GRANTS:
        key = make(grant)
        for method, path, covering in ROUTES:
            answer = http.request(method, path, headers=bearer(key), json={} if method == "POST" else None)
            allowed = grant in covering or grant == "*"
            assert (answer.status_code != 403) is allowed, (grant, path, answer.text)
            if not allowed:
                assert answer.json()["error"]["code"] == "insufficient_scope"


def test_a_key_for_one_model_has_nothing_else_fetched(
    http: httpx.Client, make: Make, server: Server, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(name: str) -> Any:
        asked.append(name)
        raise NotFound("it is not there")

    monkeypatch.setattr(server.registry, "_fetch", fetch)
    narrow, wide = make("serve:chat:mine"), make("serve:chat:team")
    for model, more in ((f"{base}:team/x", {}), ("team/x", {}), (base, {"lora": [{"id": "team/x"}]})):
        answer = http.post("/v1/chat/completions", headers=bearer(narrow), json=body(model, **more))
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "insufficient_scope", answer.text
    assert not asked
    answer = http.post("/v1/chat/completions", headers=bearer(wide), json=body("team/x"))
    assert answer.status_code == 404 and asked == ["team/x"]


def test_without_a_key_only_health_answers(http: httpx.Client) -> None:
    for method, path, _ in ROUTES:
        assert http.request(method, path, json={} if method == "POST" else None).status_code == 401
        assert http.request(method, path, headers=bearer("allm_" + "a" * 12 + "_" + "b" * 43)).status_code == 401
    assert http.get("/health").status_code == http.get("/ready").status_code == 200


def test_a_key_narrowed_to_a_model_or_an_adapter(http: httpx.Client, make: Make, base: str) -> None:
    ask = lambda key, model: http.post("/v1/chat/completions", headers=bearer(key), json=body(model)).status_code
    narrow = keys.create("anna", "test", scopes=["serve:chat:mine"]).text
    assert (ask(narrow, "mine"), ask(narrow, "yours"), ask(narrow, base)) == (200, 403, 403)
    listed = lambda key: {each["id"] for each in http.get("/v1/models", headers=bearer(key)).json()["data"]}
    shown = lambda key, model: http.get(f"/v1/models/{model}", headers=bearer(key))
    assert listed(narrow) == {"mine"} and shown(narrow, "mine").status_code == 200
    for wrong in (shown(narrow, "yours"), shown(narrow, "yourz")):  # Whose else there are is nobody's business.
        assert wrong.status_code == 404 and base not in wrong.text
    misspelt = http.post("/v1/chat/completions", headers=bearer(narrow), json=body("mime"))
    assert misspelt.status_code in (403, 404) and "yours" not in misspelt.text
    whole = make("serve:chat")
    assert listed(whole) == {base, "mine", "yours"}
    assert (ask(whole, "mine"), ask(whole, base)) == (200, 200)


def test_no_more_requests_get_through_than_the_limit_says(http: httpx.Client, make: Make, base: str) -> None:
    key = make(requests_per_minute=5)
    ask = lambda _: http.post("/v1/chat/completions", headers=bearer(key), json=body(base))
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(ask, range(24)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 19
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    told = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests")
    assert all([answer.headers[name] for name in told] == ["5", "0"] for answer in answers if answer.status_code == 429)


def test_no_more_run_at_once_than_the_limit_says(http: httpx.Client, make: Make, server: Server, base: str) -> None:
    key = make(concurrent=2)
    seen, lock, live = [], threading.Lock(), [0]

    def ask(_: int) -> int:
        with http.stream("POST", "/v1/chat/completions", headers=bearer(key),
                         json=body(base, stream=True, max_tokens=60, ignore_eos=True)) as answer:  # fmt: skip
            if answer.status_code == 200:
                with lock:
                    live[0] += 1
                    seen.append(live[0])
                for _line in answer.iter_lines():
                    pass
                with lock:
                    live[0] -= 1
            return answer.status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(ask, range(16)))
    assert set(statuses) <= {200, 429} and 200 in statuses


def test_tokens_of_a_minute_are_never_exceeded(http: httpx.Client, make: Make, base: str) -> None:
    key = make(tokens_per_minute=100)
    ask = lambda _: http.post("/v1/chat/completions", headers=bearer(key), json=body(base, max_tokens=20))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(16)))
    used = sum(answer.json()["usage"]["total_tokens"] for answer in answers if answer.status_code == 200)
    assert 0 < used <= 100
    too_much = http.post("/v1/chat/completions", headers=bearer(key), json=body(base, max_tokens=200))
    assert too_much.status_code == 429 and too_much.headers["x-should-retry"] == "false"


def test_the_ledger_is_the_sum_of_the_answers(http: httpx.Client, make: Make, base: str) -> None:
    key = make()
    identity = key.split("_")[1]

    def ask(number: int) -> tuple[int, int]:
        model = ("mine", "yours", base)[number % 3]
        more: dict[str, Any] = {"max_tokens": 3 + number % 5, "n": 1 + number % 2, "temperature": 0.8}
        if number % 2:
            answer = http.post("/v1/chat/completions", headers=bearer(key), json=body(model, **more))
            found = answer.json()["usage"]
        else:
            prompt = {"model": model, "prompt": ["One", "Two and three"], **more}
            answer = http.post("/v1/completions", headers=bearer(key), json=prompt)
            found = answer.json()["usage"]
        return found["prompt_tokens"], found["completion_tokens"]

    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(ask, range(24)))
    streamed = []
    with OpenAI(base_url=f"{http.base_url}/v1", api_key=key, max_retries=0) as client:
        for _ in range(3):
            chunks = client.chat.completions.create(
                model=base, messages=[{"role": "user", "content": "Hi"}], max_tokens=5, stream=True,
                stream_options={"include_usage": True},
            )  # fmt: skip
            last = list(chunks)[-1].usage
            assert last is not None
            streamed.append((last.prompt_tokens, last.completion_tokens))
    mine = {row.group["key"]: row for row in usage.summary(["key"])}[identity]
    assert mine.prompt == sum(prompt for prompt, _ in [*told, *streamed])
    assert mine.completion == sum(completion for _, completion in [*told, *streamed])
    assert mine.answers == 27
    labels = {row.group["adapter"] for row in usage.summary(["key", "adapter"]) if row.group["key"] == identity}
    assert labels == {"mine", "yours", None}


def test_a_client_that_leaves_is_written_down_once(http: httpx.Client, make: Make, server: Server, base: str) -> None:
    key = make(concurrent=1)
    with http.stream("POST", "/v1/chat/completions", headers=bearer(key),
                     json=body(base, stream=True, max_tokens=400, ignore_eos=True)) as answer:  # fmt: skip
        next(answer.iter_lines())
    while http.post("/v1/completions", headers=bearer(key), json={"model": base, "prompt": "x"}).status_code == 429:
        pass  # It has one place, which comes free when what it left is over.
    rows = [row for row in usage.rows() if row["key_id"] == key.split("_")[1]]
    assert sorted(row["state"] for row in rows) == ["cancelled", "settled"]
    gone = next(row for row in rows if row["state"] == "cancelled")
    assert gone["prompt"] > 0 and gone["completion"] < 400


def test_users_behind_a_key_have_limits_and_adapters_of_their_own(http: httpx.Client, make: Make, base: str) -> None:
    key = make(forwarded_users=True, each_user={"requests_per_minute": 2})
    users.put(key.split("_")[1], "u-3", limits=Limits(requests_per_minute=3), adapter="mine")
    ask = lambda user: http.post(
        "/v1/chat/completions", headers=bearer(key, **{"x-openwebui-user-id": user}), json=body(base)
    )
    assert [ask("u-1").status_code for _ in range(3)] == [200, 200, 429]
    answers = [ask("u-3") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert {answer.json()["allmend"]["adapter"] for answer in answers[:3]} == {"mine"}
    assert ask("u-2").json()["allmend"]["adapter"] is None
    named = {row.group["user"] for row in usage.summary(["key", "user"]) if row.group["key"] == key.split("_")[1]}
    assert named == {"u-1", "u-2", "u-3"}
    strict = make(requests_per_minute=1)  # May not name users: all are one.
    one = lambda user: (
        http.post(
            "/v1/chat/completions", headers=bearer(strict, **{"x-openwebui-user-id": user}), json=body(base)
        ).status_code
    )
    assert (one("a"), one("b")) == (200, 429)


def test_a_user_that_cannot_be_told_apart_is_not_nobody(http: httpx.Client, make: Make, base: str) -> None:
    key = make(forwarded_users=True, each_user={"requests_per_minute": 1})

    def ask(user: str, method: str = "POST") -> httpx.Response:
        headers = {b"authorization": f"Bearer {key}".encode(), b"x-openwebui-user-id": user.encode()}
        path = "/v1/chat/completions" if method == "POST" else "/v1/models"
        return http.request(method, path, headers=headers, json=body(base) if method == "POST" else None)

    for user in ("x" * 201, "a\tb", "\u202ea"):
        answer = ask(user)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_user")
        assert ask(user, "GET").status_code == 400
    users.put(key.split("_")[1], "José", limits=Limits(requests_per_minute=2), adapter=None)
    assert [ask("José").status_code for _ in range(3)] == [200, 200, 429]
    assert "José" in {row["user"] for row in usage.rows() if row["key_id"] == key.split("_")[1]}


def test_no_adapter_is_fetched_beyond_the_limit(
    http: httpx.Client, make: Make, server: Server, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(name: str) -> Any:
        asked.append(name)
        raise NotFound("it is not there")

    monkeypatch.setattr(server.registry, "_fetch", fetch)
    key = make(adapters=1)
    ask = lambda model: http.post("/v1/chat/completions", headers=bearer(key), json=body(model)).status_code
    assert (ask("team/x"), ask("mine"), ask("team/y"), ask("yours"), ask("mine")) == (404, 200, 429, 429, 200)
    assert asked == ["team/x"]


def test_what_stands_in_is_covered_by_the_key_or_does_not(
    http: httpx.Client, make: Make, server: Server, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.desk, "fallbacks", {"mine": "yours"})

    def busy(*arguments: Any, **more: Any) -> Any:
        raise Overloaded("The server is busy.", retry_after=3.0, place=7)

    gate, enter = server.desk.gate(server.registry.bases()[0]), Gate.enter
    for scope, status, answered in (("serve:chat:mine", 429, None), ("serve:chat", 200, "yours")):
        calls = iter([busy])
        monkeypatch.setattr(gate, "enter", lambda *a, **m: next(calls, enter.__get__(gate))(*a, **m))  # noqa: B023
        answer = http.post("/v1/chat/completions", headers=bearer(make(scope)), json=body("mine"))
        assert answer.status_code == status and answer.headers["x-queue-place"] == ("7" if status == 429 else "0")
        assert answer.json().get("model") == answered


def test_a_ledger_that_cannot_be_written_takes_no_place_away(
    http: httpx.Client, make: Make, server: Server, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make(concurrent=1)
    assert server.desk.ledger is not None

    def ask(**more: Any) -> httpx.Response:
        # An answer that failed has ended a moment after it was sent; its place is free then.
        until = time.monotonic() + 60
        while True:
            answer = http.post("/v1/chat/completions", headers=bearer(key), json=body(base, **more))
            if answer.status_code != 429 or time.monotonic() > until:
                return answer

    @contextmanager
    def full() -> Iterator[Any]:
        raise Unavailable("the disk is full")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(server.desk.ledger._writer, "transaction", full)
        told = [ask(), ask(), ask(stream=True)]
        # Also where what failed is all that there is to write.
        patch.setattr("allmend.serving.running.Running.pieces", failing)
        failed = [ask(), ask()]
    assert all("ledger_unavailable" in answer.text for answer in told)
    assert {answer.status_code for answer in failed} == {500}
    assert ask().status_code == 200


async def failing(self: Any) -> AsyncIterator[Any]:
    await self.start()
    raise Fault(500, "The model failed.")
    yield


def test_a_revoked_key_is_refused(http: httpx.Client, make: Make) -> None:
    key = make()
    assert http.get("/v1/models", headers=bearer(key)).status_code == 200
    keys.revoke(key.split("_")[1])
    assert http.get("/v1/models", headers=bearer(key)).status_code == 401


def test_what_an_administrator_does_is_in_the_audit_log(http: httpx.Client, make: Make, folders: Any) -> None:
    key = make("serve:admin")
    loaded = {"lora_name": "third", "lora_path": str(folders.adapters["mine"])}
    assert http.post("/v1/load_lora_adapter", headers=bearer(key), json=loaded).status_code == 200
    assert http.post("/v1/unload_lora_adapter", headers=bearer(key), json={"lora_name": "third"}).status_code == 200
    done = [(entry.actor, entry.key, entry.action, entry.target) for entry in audit.read(action="adapter.")]
    identity = key.split("_")[1]
    assert done[:2] == [("anna", identity, "adapter.unload", "third"), ("anna", identity, "adapter.load", "third")]


def test_the_stock_client_reads_a_limit(http: httpx.Client, make: Make, base: str) -> None:
    with OpenAI(base_url=f"{http.base_url}/v1", api_key=make(requests_per_minute=1), max_retries=0) as client:
        ask = lambda: client.completions.create(model=base, prompt="x", max_tokens=1)
        ask()
        with pytest.raises(RateLimitError) as caught:
            ask()
    assert caught.value.code == "rate_limit_exceeded"


@pytest.mark.slow
@pytest.mark.parametrize("client", ["langchain", "litellm"])
def test_stock_clients_work_with_a_key(client: str, stock_client: Any, make: Make, server: Server, base: str) -> None:
    refused = stock_client(client, f"{server.url}/v1", base, "allm_wrong")
    assert refused.returncode != 0
    key = make("serve:chat")
    done = stock_client(client, f"{server.url}/v1", base, key)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("ok ") >= 20
    rows = [row for row in usage.rows() if row["key_id"] == key.split("_")[1]]
    assert len(rows) >= 15 and {row["state"] for row in rows} <= {"settled", "cancelled"}


def test_what_open_webui_sends_is_answered(http: httpx.Client, make: Make, base: str) -> None:
    key = make(forwarded_users=True)
    who = {"x-openwebui-user-name": "Anna%20B", "x-openwebui-user-id": "8f3a", "x-openwebui-user-email": "a@b.example",
           "x-openwebui-user-role": "user", "x-openwebui-chat-id": "c1"}  # fmt: skip
    models = http.get("/v1/models", headers=bearer(key, **who)).json()["data"]
    assert {each["id"] for each in models} == {base, "mine", "yours"}
    asked = {"stream": True, "model": "yours", "messages": [{"role": "user", "content": "Hello"}],
             "temperature": 0.8, "max_tokens": 5, "stream_options": {"include_usage": True}}  # fmt: skip
    with http.stream("POST", "/v1/chat/completions", headers=bearer(key, **who), json=asked) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert answer.status_code == 200 and lines[-1] == "data: [DONE]"
    titled = http.post("/v1/chat/completions", headers=bearer(key, **who), json={**asked, "stream": False,
                       "stream_options": None, "max_completion_tokens": 5})  # fmt: skip
    assert titled.status_code == 200
    rows = [row for row in usage.rows() if row["key_id"] == key.split("_")[1]]
    assert [row["user"] for row in rows] == ["8f3a", "8f3a"]


def test_listening_for_others_needs_keys_and_tls_or_a_word(folders: Any, tmp_path: Any) -> None:
    model = str(folders.base)
    with pytest.raises(Refused, match="key"):
        start(model, host="0.0.0.0")
    with pytest.raises(Refused, match="read") as caught:
        start(model, host="0.0.0.0", api_key="x")
    assert "--tls-cert" in (caught.value.hint or "") and "--insecure" in (caught.value.hint or "")
    with pytest.raises(UsageError):
        start(model, port=0, tls_cert="only.pem")
    with pytest.raises(NotFound):
        start(model, port=0, tls_cert=str(tmp_path / "no.pem"), tls_key=str(tmp_path / "no.key"))
    (tmp_path / "no.pem").write_text("no")
    with pytest.raises(InputError):
        start(model, port=0, tls_cert=str(tmp_path / "no.pem"), tls_key=str(tmp_path / "no.pem"))


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate for this machine that nobody signed but itself, and its key."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "allmend test")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return str(folder / "cert.pem"), str(folder / "key.pem")


def test_the_stock_client_speaks_tls(folders: Any, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=cert)
    options: dict[str, Any] = {"dtype": "float32", "memory": "64M", "api_key": "word"}
    with start(str(folders.base), port=0, tls_cert=cert, tls_key=key, **options) as running:
        assert running.url.startswith("https://127.0.0.1:")
        asked = body(running.registry.bases()[0].name)
        with OpenAI(base_url=f"{running.url}/v1", api_key="word", max_retries=0,
                    http_client=DefaultHttpxClient(verify=trusting)) as client:  # fmt: skip
            said = client.chat.completions.create(**asked, temperature=0)
            pieces = list(client.chat.completions.create(**asked, temperature=0, stream=True))
        streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        assert streamed == said.choices[0].message.content
        untrusting = OpenAI(base_url=f"{running.url}/v1", api_key="word", max_retries=0)
        with untrusting, pytest.raises(APIConnectionError):
            untrusting.models.list()  # Nobody whom it trusts has signed the certificate.
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{running.url.replace('https', 'http')}/health", timeout=120)
        assert httpx.get(f"{running.url}/v1/models", verify=trusting, timeout=120).status_code == 401
        # A certificate that was renewed is used by the server that runs, once its files are whole.
        other = tmp_path / "other"
        other.mkdir()
        certificate(other)
        for name, taken in (("cert.pem", False), ("key.pem", True)):
            shutil.copy(other / name, tmp_path / name)
            assert running._renewal is not None and running._renewal.renew() is taken
            trust = ssl.create_default_context(cafile=str(other / "cert.pem")) if taken else trusting
            assert httpx.get(f"{running.url}/health", verify=trust, timeout=120).status_code == 200
