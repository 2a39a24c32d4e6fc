"""Collecting takes what nothing leads to, and nothing else."""

from __future__ import annotations

import os

from huggingface_hub import HfFileSystem

import hubs


def test_collecting_keeps_what_a_commit_reaches(hub: hubs.Running) -> None:
    import asyncio

    from allmend.hub.collecting import collect

    api = hub.api()
    api.create_repo("kept")
    api.create_repo("gone")
    kept = os.urandom(150_000)
    first = api.upload_file(path_or_fileobj=kept, path_in_repo="a/w.bin", repo_id="anna/kept").oid
    api.upload_file(path_or_fileobj=b"small", path_in_repo="b.txt", repo_id="anna/kept")
    api.delete_file("a/w.bin", "anna/kept")
    api.upload_file(path_or_fileobj=os.urandom(150_000), path_in_repo="w.bin", repo_id="anna/gone")
    api.duplicate_repo("anna/gone", to_id="anna/fork")
    api.delete_repo("anna/gone")

    def run() -> dict[str, int]:
        return asyncio.run(collect(hub.server.hub.store, older=-60.0))

    assert run()["files"] == 0  # the history and the fork lead to all of it
    read = HfFileSystem(endpoint=hub.url, token=hub.person("anna"), use_listings_cache=False).cat_file
    assert read(f"anna/kept@{first}/a/w.bin") == kept
    api.delete_repo("anna/fork")
    api.super_squash_history("anna/kept")
    taken = run()
    assert taken["files"] >= 2 and taken["trees"] >= 2 and taken["bytes"] > 250_000
    assert read("anna/kept/b.txt") == b"small"
    again = os.urandom(100_000)
    api.upload_file(path_or_fileobj=again, path_in_repo="a/w.bin", repo_id="anna/kept")
    assert read("anna/kept/a/w.bin") == again


def test_a_commit_that_is_squashed_and_collected_at_once_was_made(hub: hubs.Running) -> None:
    import asyncio

    from allmend.hub import facts
    from allmend.hub.collecting import collect

    api = hub.api()
    api.create_repo("soon")
    done = api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="anna/soon").oid
    api.super_squash_history("anna/soon")
    asyncio.run(collect(hub.server.hub.store, older=-60.0))
    # What follows a commit finds it gone: no error, and not the answer 500 to who made it.
    asyncio.run(facts.refresh(hub.server.hub, 1, done))
    assert api.list_repo_files("anna/soon") == [".gitattributes", "x.txt"]
