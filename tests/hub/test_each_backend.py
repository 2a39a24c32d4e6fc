"""What a hub is for, over a folder with SQLite, and over an S3-compatible store with PostgreSQL, as a team has them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from test_rules import lines, small

import hubs
import postgres


@dataclass(frozen=True)
class Backend:
    """Where a hub keeps things."""

    store: str
    database: str | None

    def running(self, **settings: Any) -> AbstractContextManager[hubs.Running]:
        """A hub over it."""
        return hubs.running(self.store, database=self.database, **settings)


@contextmanager
def _bucket() -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true"}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="allmend")
        yield "s3://allmend/hub"
    server.stop()


@pytest.fixture(scope="module", params=["a folder and SQLite", "S3 and PostgreSQL"])
def backend(request: pytest.FixtureRequest, place: Path) -> Iterator[Backend]:
    """Each of the two."""
    if request.param == "a folder and SQLite":
        yield Backend(str(place / "each"), None)
        return
    with _bucket() as store, postgres.running() as address:
        yield Backend(store, address)


@pytest.fixture(scope="module")
def hub(backend: Backend, place: Path) -> Iterator[hubs.Running]:
    """A hub over it."""
    with backend.running() as made:
        made.folder = place / "clients"
        yield made


def lfs(client: httpx.Client, name: str, data: bytes) -> dict[str, object]:
    """Upload by LFS; what a commit says of the file."""
    oid = hashlib.sha256(data).hexdigest()
    asked = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(data)}]}
    actions = client.post(f"/{name}.git/info/lfs/objects/batch", json=asked).json()["objects"][0]["actions"]
    assert client.put(actions["upload"]["href"], content=data).status_code == 200
    assert client.post(actions["verify"]["href"], json={"oid": oid, "size": len(data)}).status_code == 200
    return {"algo": "sha256", "oid": oid, "size": len(data)}


def test_uploads_of_every_kind_come_back(hub: hubs.Running, tmp_path: Path) -> None:
    api = hub.api("pg")
    api.create_repo("team", private=True)
    (tmp_path / "m").mkdir()
    for name, data in (("w.bin", os.urandom(200_000)), ("a.txt", b"a"), ("b.safetensors", os.urandom(5_000))):
        (tmp_path / "m" / name).write_bytes(data)
    # The stock client sends large files by Xet.
    done = api.upload_folder(repo_id="pg/team", folder_path=tmp_path / "m")
    back = Path(api.snapshot_download("pg/team", cache_dir=tmp_path / "cache"))
    for path in (tmp_path / "m").iterdir():
        assert (back / path.name).read_bytes() == path.read_bytes()
    assert api.list_repo_commits("pg/team")[0].commit_id == done.oid
    data = os.urandom(300_000)
    with hub.http("pg") as client:
        body = lines(("lfsFile", {"path": "by-lfs.bin", **lfs(client, "pg/team", data)}))
        assert client.post("/api/models/pg/team/commit/main", content=body).status_code == 200
        assert client.get("/pg/team/resolve/main/by-lfs.bin").content == data
        part = client.get("/pg/team/resolve/main/w.bin", headers={"range": "bytes=1000-1999"})
    assert part.content == (tmp_path / "m" / "w.bin").read_bytes()[1000:2000]
    by_xet = api.hf_hub_download("pg/team", "by-lfs.bin", cache_dir=tmp_path / "cache")
    assert Path(by_xet).read_bytes() == data


def test_a_lie_is_refused_and_nothing_of_it_kept(hub: hubs.Running) -> None:
    hub.api("pg").create_repo("lies")
    oid = hashlib.sha256(b"something else").hexdigest()
    asked = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": 70_000}]}
    with hub.http("pg") as client:
        actions = client.post("/pg/lies.git/info/lfs/objects/batch", json=asked).json()["objects"][0]["actions"]
        assert client.put(actions["upload"]["href"], content=os.urandom(70_000)).status_code == 400
        body = lines(("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": oid, "size": 70_000}))
        assert client.post("/api/models/pg/lies/commit/main", content=body).status_code == 400
    assert hub.api("pg").list_repo_files("pg/lies") == [".gitattributes"]


def test_commits_race(hub: hubs.Running) -> None:
    api = hub.api("pg")
    api.create_repo("race")
    parent = api.model_info("pg/race").sha

    def push(number: int, above: str | None) -> int:
        body = lines(small(f"{number}.txt", str(number).encode()))
        if above is not None:
            head = {"key": "header", "value": {"summary": "Test", "parentCommit": above}}
            body = json.dumps(head).encode() + b"\n" + body.partition(b"\n")[2]
        with hub.http("pg") as client:
            return client.post("/api/models/pg/race/commit/main", content=body).status_code

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(lambda number: push(number, parent), range(8))) == {200: 1, 412: 7}
        assert Counter(pool.map(lambda number: push(number, None), range(10, 26))) == {200: 16}
    assert len(api.list_repo_files("pg/race")) == 18 and len(api.list_repo_commits("pg/race")) == 18


def test_pull_requests_merge_and_conflict(hub: hubs.Running) -> None:
    api, other = hub.api("pg"), hub.api("guest")
    api.create_repo("asked")
    api.upload_file(repo_id="pg/asked", path_in_repo="0.txt", path_or_fileobj=b"0")
    made = [
        other.create_commit("pg/asked", [CommitOperationAdd("0.txt", data)], commit_message="Zero", create_pr=True)
        for data in (b"zero", b"null")
    ]
    api.merge_pull_request("pg/asked", made[0].pr_num)
    with pytest.raises(HfHubHTTPError):
        api.merge_pull_request("pg/asked", made[1].pr_num)
    with hub.http("pg") as client:
        assert client.get("/pg/asked/resolve/main/0.txt").content == b"zero"
    assert [each.status for each in api.get_repo_discussions("pg/asked")] == ["open", "merged"]


def test_private_and_gated_repositories(hub: hubs.Running, tmp_path: Path) -> None:
    api, other = hub.api("pg"), hub.api("guest")
    api.create_repo("hidden", private=True)
    api.upload_file(repo_id="pg/hidden", path_in_repo="w.bin", path_or_fileobj=os.urandom(20_000))
    for stranger in (other, hub.api(None)):
        with pytest.raises(RepositoryNotFoundError):
            stranger.model_info("pg/hidden")
    assert "pg/hidden" in [each.id for each in api.list_models(author="pg")]
    assert "pg/hidden" not in [each.id for each in other.list_models(author="pg")]
    api.create_repo("gate")
    api.upload_file(repo_id="pg/gate", path_in_repo="w.bin", path_or_fileobj=os.urandom(20_000))
    api.update_repo_settings("pg/gate", gated="manual")
    with pytest.raises(GatedRepoError):
        other.hf_hub_download("pg/gate", "w.bin", cache_dir=tmp_path)
    api.grant_access("pg/gate", "guest")
    assert Path(other.hf_hub_download("pg/gate", "w.bin", cache_dir=tmp_path)).stat().st_size == 20_000


def test_collecting(hub: hubs.Running) -> None:
    from allmend.hub.collecting import collect

    api = hub.api("pg")
    api.create_repo("worn")
    kept, gone = os.urandom(150_000), os.urandom(150_000)
    api.create_commit(
        "pg/worn", [CommitOperationAdd("kept.bin", kept), CommitOperationAdd("gone.bin", gone)], commit_message="Both"
    )
    api.create_commit("pg/worn", [CommitOperationDelete("gone.bin")], commit_message="One")
    api.super_squash_history("pg/worn")
    taken = asyncio.run(collect(hub.server.hub.store, older=-60.0))
    assert taken["files"] >= 1
    with hub.http("pg") as client:
        assert client.get("/pg/worn/resolve/main/kept.bin").content == kept


def test_another_server_over_the_same_and_a_restart(backend: Backend) -> None:
    data = os.urandom(120_000)
    with backend.running() as first:
        api = first.api("ruth")
        api.create_repo("again")
        done = api.upload_file(repo_id="ruth/again", path_in_repo="w.bin", path_or_fileobj=data).oid
        key = first.person("ruth")
    with backend.running() as second:
        second.keys["ruth "] = key
        api = second.api("ruth")
        assert api.model_info("ruth/again").sha == done
        with second.http("ruth") as client:
            assert client.get("/ruth/again/resolve/main/w.bin").content == data
        api.upload_file(repo_id="ruth/again", path_in_repo="more.bin", path_or_fileobj=data + b"more")
        assert len(api.list_repo_commits("ruth/again")) == 3
