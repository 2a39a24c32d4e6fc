"""The main paths again, with commits in PostgreSQL and contents in an S3-compatible store, as a team has them."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_rules import lines, small

import hubs
import postgres


@pytest.fixture(scope="module")
def hub(place: Path) -> Iterator[hubs.Running]:
    """A hub over both."""
    import boto3
    from moto.server import ThreadedMotoServer

    bucket = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    bucket.start()
    endpoint = "http://{}:{}".format(*bucket.get_host_and_port())
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true"}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, postgres.running() as address:
        for name, value in keys.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="allmend")
        with hubs.running("s3://allmend/hub", database=address) as made:
            made.folder = place / "s3"
            yield made
    bucket.stop()


def test_uploads_downloads_and_collecting(hub: hubs.Running, tmp_path: Path) -> None:
    from allmend.hub.collecting import collect

    api = hub.api("pg")
    api.create_repo("team", private=True)
    (tmp_path / "m").mkdir()
    for name, data in (("w.bin", os.urandom(200_000)), ("a.txt", b"a"), ("b.safetensors", os.urandom(5_000))):
        (tmp_path / "m" / name).write_bytes(data)
    done = api.upload_folder(repo_id="pg/team", folder_path=tmp_path / "m")
    back = Path(api.snapshot_download("pg/team", cache_dir=tmp_path / "cache"))
    for path in (tmp_path / "m").iterdir():
        assert (back / path.name).read_bytes() == path.read_bytes()
    with hub.http("pg") as client:
        part = client.get("/pg/team/resolve/main/w.bin", headers={"range": "bytes=1000-1999"})
    assert part.content == (tmp_path / "m" / "w.bin").read_bytes()[1000:2000]
    assert [each.id for each in api.list_models(author="pg")] == ["pg/team"]
    assert [each.id for each in hub.api(None).list_models(author="pg")] == []
    assert api.list_repo_commits("pg/team")[0].commit_id == done.oid
    api.delete_file("w.bin", "pg/team")
    api.super_squash_history("pg/team")
    taken = asyncio.run(collect(hub.server.hub.store, older=-60.0))
    assert taken["files"] >= 1
    with hub.http("pg") as client:
        assert client.get("/pg/team/resolve/main/a.txt").content == b"a"


def test_commits_race_and_pull_requests_merge(hub: hubs.Running) -> None:
    from huggingface_hub import CommitOperationAdd

    api, other = hub.api("pg"), hub.api("guest")
    api.create_repo("race")

    def push(number: int) -> int:
        with hub.http("pg") as client:
            body = lines(small(f"{number}.txt", str(number).encode()))
            return client.post("/api/models/pg/race/commit/main", content=body).status_code

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(push, range(16))) == {200: 16}
    assert len(api.list_repo_files("pg/race")) == 17
    made = other.create_commit("pg/race", [CommitOperationAdd("0.txt", b"zero")], commit_message="Zero", create_pr=True)
    api.merge_pull_request("pg/race", made.pr_num)
    with hub.http("pg") as client:
        assert client.get("/pg/race/resolve/main/0.txt").content == b"zero"
