"""Routes beside text held to keys: scopes, owners, the ledger, and batches on their maker's account."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

import encoders
from allmend import database
from allmend.access import accounts, keys, usage
from allmend.serving.server import Server
from allmend.verbs.index import index
from allmend.verbs.serve import start


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
        options: dict[str, Any] = {"dtype": "float32", "memory": "64M", "isolate": False, "index": ["notes"]}
        with start([str(folders.base), embed], port=0, with_keys=True, **options) as running:
            yield running
        database.forget()
        keys.forget()


def client(server: Server, owner: str, *scopes: str) -> OpenAI:
    key = keys.create(owner, "test", scopes=scopes).text
    return OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def model(server: Server) -> str:
    return server.registry.services.all()[0].name


def counted() -> int:
    return sum(row["prompt"] for row in usage.rows() if "embed" in row["route"])


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
    with client(server, "anna", "serve:chat", "serve:search") as asking:
        assert asking.chat.completions.create(**asked).model_extra["allmend"]["searched"]["results"]


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
