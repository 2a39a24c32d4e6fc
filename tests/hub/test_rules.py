"""What the hub refuses, bounds and keeps in order: keys, names, other people's files, bodies that are none."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hubs


def lines(*items: tuple[str, dict[str, object]]) -> bytes:
    """A commit's body."""
    head = ("header", {"summary": "Test"})
    return b"".join(json.dumps({"key": key, "value": value}).encode() + b"\n" for key, value in (head, *items))


def small(path: str, data: bytes = b"x") -> tuple[str, dict[str, object]]:
    """A regular file of a commit."""
    return "file", {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}


SCOPES: dict[str, tuple[str, ...] | None] = {
    "nobody": None,
    "reader": ("hub:read",),
    "writer": ("hub:write",),
    "writer of one": ("hub:write:owen/one",),
    "administrator of one": ("hub:admin:owen/one",),
    "chatter": ("serve:chat",),
}
WORK: dict[str, tuple[str, str, set[str]]] = {
    # What is done, to which repository, and which keys of its owner may.
    "see": ("GET /api/models/owen/{}", "one", {"reader", "writer", "writer of one", "administrator of one"}),
    "see another": ("GET /api/models/owen/{}", "two", {"reader", "writer"}),
    "read": ("GET /owen/{}/resolve/main/.gitattributes", "one",
             {"reader", "writer", "writer of one", "administrator of one"}),
    "commit": ("POST /api/models/owen/{}/commit/main", "one", {"writer", "writer of one", "administrator of one"}),
    "commit to another": ("POST /api/models/owen/{}/commit/main", "two", {"writer"}),
    "write token": ("GET /api/models/owen/{}/xet-write-token/main", "one",
                    {"writer", "writer of one", "administrator of one"}),
    "settings": ("PUT /api/models/owen/{}/settings", "one", {"administrator of one"}),
    "settings of another": ("PUT /api/models/owen/{}/settings", "two", set()),
}  # fmt: skip


@pytest.mark.parametrize("holder", SCOPES)
def test_keys_do_what_their_scopes_say(hub: hubs.Running, holder: str) -> None:
    with hub.http("owen") as owner:
        for name in ("one", "two"):
            owner.post("/api/repos/create", json={"name": name, "private": True})
    scopes = SCOPES[holder]
    found, wanted = {}, {}
    with hub.http(None) if scopes is None else hub.http("owen", *scopes) as client:
        for work, (place, name, may) in WORK.items():
            method, _, path = place.format(name).partition(" ")
            body = {"content": lines(small(f"{work}.txt"))} if "commit" in path else {}
            answer = client.request(method, path, **body, **({"json": {"gated": False}} if method == "PUT" else {}))
            found[work], wanted[work] = answer.status_code < 300, holder in may
            assert answer.status_code < 500
    assert found == wanted
    # A stranger's widest key does none of it.
    with hub.http("stranger") as other:
        assert all(
            other.request(place.partition(" ")[0], place.format(name).partition(" ")[2], json={}).status_code == 404
            for place, name, _ in WORK.values()
        )


def test_keys_that_were_revoked_or_never_were(hub: hubs.Running) -> None:
    from allmend.access import keys

    key = hub.person("rita")
    with hub.http("rita") as client:
        assert client.get("/api/whoami-v2").json()["name"] == "rita"
        keys.revoke(key)
        assert client.get("/api/whoami-v2").status_code == 401
    with httpx.Client(base_url=hub.url, timeout=120) as client:
        for header in ("Bearer allm_x_y", "Bearer \xff", "Basic !!!", "Basic " + base64.b64encode(b"a:b").decode()):
            assert client.get("/api/models", headers={"authorization": header.encode("latin-1")}).status_code == 401


PATHS = ["..", "a/../b", "/abs/../x", "a//b", ".", "a/./b", "", "a\0b", "a\nb", "a\\b", ".git/config", "a/.GIT/x",
         "a/git~1/x", ".git ", "x" * 256, "a/" * 600 + "b", "\ud800", "a/.git::$INDEX_ALLOCATION/x"]  # fmt: skip


def test_paths_that_some_machine_reads_otherwise(hub: hubs.Running) -> None:
    with hub.http() as client:
        client.post("/api/repos/create", json={"name": "paths"})
        before = client.get("/api/models/anna/paths").json()["sha"]
        for path in PATHS:
            answer = client.post("/api/models/anna/paths/commit/main", content=lines(small(path)))
            assert answer.status_code in (400, 422), path
        assert client.get("/api/models/anna/paths").json()["sha"] == before
        kept = ["ümläut/日本.txt", "with space.txt", "%2F.txt", "a+b?c#d.txt", "Case.txt", "case.txt", "x" * 255, "..."]
        body = lines(*(small(path, path.encode()) for path in kept))
        assert client.post("/api/models/anna/paths/commit/main", content=body).status_code == 200
        listed = [each["path"] for each in client.get("/api/models/anna/paths/tree/main?recursive=1").json()]
        assert set(kept) < set(listed)
        for path in kept:
            address = "/anna/paths/resolve/main/" + quote(path)
            assert client.get(address).content == path.encode(), path


@pytest.mark.parametrize("name", ["..", "a/b/c", "a--b", "x" * 97, "a.git", "-a", "a b", "ä", "a\0", "", "x/../y"])
def test_names_that_no_repository_may_have(hub: hubs.Running, name: str) -> None:
    with hub.http() as client:
        assert client.post("/api/repos/create", json={"name": name}).status_code in (400, 403, 422)


def test_knowing_a_digest_opens_nothing(hub: hubs.Running) -> None:
    secret = os.urandom(80_000)
    digest = hashlib.sha256(secret).hexdigest()
    anna = hub.api()
    anna.create_repo("vault", private=True)
    anna.upload_file(path_or_fileobj=secret, path_in_repo="s.bin", repo_id="anna/vault")
    xet = anna.get_paths_info("anna/vault", ["s.bin"])[0].xet_hash
    commit = anna.model_info("anna/vault").sha
    with hub.http("thief") as client:
        client.post("/api/repos/create", json={"name": "mine"})
        body = lines(("lfsFile", {"path": "s.bin", "algo": "sha256", "oid": digest, "size": len(secret)}))
        answer = client.post("/api/models/thief/mine/commit/main", content=body)
        assert answer.status_code == 400 and "Upload it to this repository" in answer.json()["error"]
        asked = {"target": {"type": "model", "name": "thief/mine"}, "files": [{"sha256": digest, "xetHash": xet}]}
        assert client.post("/api/models/anna/vault/lfs-files/duplicate", json=asked).status_code == 404
        assert client.get(f"/thief/mine/resolve/{commit}/s.bin").status_code == 404
        token = client.get("/api/models/thief/mine/xet-read-token/main").json()
        head = {"authorization": f"Bearer {token['accessToken']}"}
        assert client.get(f"/v1/reconstructions/{xet}", headers=head).status_code in (403, 404)


def test_large_files_in_one_piece_and_in_parts(hub: hubs.Running) -> None:
    from dataclasses import replace

    data = os.urandom(300_000)
    digest = hashlib.sha256(data).hexdigest()
    hub.server.hub.limits = replace(hub.server.hub.limits, part=100_000)
    with hub.http() as client:
        client.post("/api/repos/create", json={"name": "lfs"})
        ask = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": digest, "size": len(data)}]}
        batch = "/anna/lfs.git/info/lfs/objects/batch"
        with httpx.Client(timeout=120) as plain:
            actions = client.post(batch, json=ask).json()["objects"][0]["actions"]
            assert plain.put(actions["upload"]["href"], content=data[:-1] + b"?").status_code == 400
            assert plain.post(actions["verify"]["href"], json={}).status_code == 404
            assert plain.put(actions["upload"]["href"] + "x", content=data).status_code == 403
            actions = client.post(batch, json={**ask, "transfers": ["basic", "multipart"]}).json()["objects"][0][
                "actions"
            ]
            header = actions["upload"]["header"]
            size, parts = int(header.pop("chunk_size")), []
            for number, href in sorted(header.items()):
                start = (int(number) - 1) * size
                answer = plain.put(href, content=data[start : start + size])
                parts.append({"partNumber": int(number), "etag": answer.headers["etag"]})
            assert len(parts) == 3
            done = plain.post(actions["upload"]["href"], json={"oid": digest, "parts": parts})
            assert done.status_code == 200 and plain.post(actions["verify"]["href"], json={}).status_code == 200
        assert "actions" not in client.post(batch, json=ask).json()["objects"][0]
        body = lines(("lfsFile", {"path": "d.bin", "algo": "sha256", "oid": digest, "size": len(data)}))
        assert client.post("/api/models/anna/lfs/commit/main", content=body).status_code == 200
        for header, part in (("bytes=0-0", data[:1]), ("bytes=299999-", data[-1:]), ("bytes=-10", data[-10:]),
                             ("bytes=100-200000", data[100:200_001])):  # fmt: skip
            answer = client.get("/anna/lfs/resolve/main/d.bin", headers={"range": header})
            assert answer.status_code == 206 and answer.content == part
        past = client.get("/anna/lfs/resolve/main/d.bin", headers={"range": "bytes=300000-"})
        assert past.status_code == 416 and past.headers["content-range"] == "bytes */300000"
        head = client.head("/anna/lfs/resolve/main/d.bin")
        assert head.headers["etag"] == f'"{digest}"' and head.headers["content-length"] == "300000"
        again = client.get("/anna/lfs/resolve/main/d.bin", headers={"if-none-match": head.headers["etag"]})
        assert again.status_code == 304
        gone = client.head("/anna/lfs/resolve/main/none")
        assert gone.headers["x-error-code"] == "EntryNotFound" and gone.headers["x-repo-commit"]


def test_commits_to_one_branch_are_in_order(hub: hubs.Running) -> None:
    with hub.http() as client:
        client.post("/api/repos/create", json={"name": "race"})

    def push(number: int) -> int:
        with hub.http() as client:
            body = lines(small(f"{number}.txt", str(number).encode()))
            return client.post("/api/models/anna/race/commit/main", content=body).status_code

    with ThreadPoolExecutor(12) as pool:
        assert Counter(pool.map(push, range(36))) == {200: 36}
    with hub.http() as client:
        assert len(client.get("/api/models/anna/race/tree/main").json()) == 37
        answer = client.get("/api/models/anna/race/commits/main")
        assert int(answer.headers["x-total-count"]) == 37
        head = client.get("/api/models/anna/race").json()["sha"]

        def late(number: int) -> int:
            body = json.dumps({"key": "header", "value": {"summary": "s", "parentCommit": head}}).encode() + b"\n"
            content = body + lines(small("same.txt", str(number).encode())).split(b"\n", 1)[1]
            with hub.http() as other:
                return other.post("/api/models/anna/race/commit/main", content=content).status_code

        with ThreadPoolExecutor(8) as pool:
            assert Counter(pool.map(late, range(8))) == {200: 1, 412: 7}


def test_two_hundred_clients_at_once(hub: hubs.Running) -> None:
    with hub.http() as client:
        client.post("/api/repos/create", json={"name": "busy"})
        client.post("/api/models/anna/busy/commit/main", content=lines(small("a.txt", b"busy")))
    start = threading.Barrier(200)
    bad: list[object] = []
    key = hub.person("anna")

    def visit(number: int) -> None:
        with httpx.Client(base_url=hub.url, timeout=300, headers={"authorization": f"Bearer {key}"}) as client:
            start.wait()
            for path in ("/api/models/anna/busy", "/anna/busy/resolve/main/a.txt", "/api/models/anna/busy/tree/main"):
                answer = client.get(path)
                if answer.status_code != 200:
                    bad.append((number, path, answer.status_code))

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bad == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4), max_leaves=12,
)  # fmt: skip
VALUE = st.fixed_dictionaries({}, optional={
    "path": st.text(max_size=30) | JSON, "content": st.text(max_size=30) | JSON, "oid": st.text(max_size=64) | JSON,
    "encoding": st.sampled_from(["base64", "utf-8", 3]), "size": JSON, "summary": JSON, "parentCommit": JSON,
})  # fmt: skip
KEYS = st.sampled_from(["header", "file", "lfsFile", "deletedFile", "deletedFolder", "deletedEntry"]) | st.text(
    max_size=8
)
PLACES = st.sampled_from([
    ("POST", "/api/repos/create"), ("DELETE", "/api/repos/delete"), ("POST", "/api/repos/move"),
    ("POST", "/api/validate-yaml"), ("PUT", "/api/models/anna/fuzz/settings"),
    ("POST", "/api/models/anna/fuzz/preupload/main"), ("POST", "/api/models/anna/fuzz/paths-info/main"),
    ("POST", "/api/models/anna/fuzz/discussions"), ("POST", "/api/models/anna/fuzz/discussions/1/comment"),
    ("POST", "/api/models/anna/fuzz/branch/b"), ("POST", "/api/models/anna/fuzz/tag/main"),
    ("POST", "/anna/fuzz.git/info/lfs/objects/batch"), ("POST", "/api/models/anna/fuzz/lfs-files/duplicate"),
    ("POST", "/api/models/anna/fuzz/user-access-request/handle"), ("POST", "/anna/fuzz/ask-access"),
    ("POST", "/api/models/anna/fuzz/duplicate"), ("POST", "/api/models/anna/fuzz/super-squash/main"),
])  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(KEYS, VALUE), max_size=4), st.lists(st.tuples(PLACES, JSON), max_size=3), st.binary(max_size=60)
)
def test_bodies_that_are_none_are_told_so(
    hub: hubs.Running, items: list[tuple[str, object]], asked: list[tuple[tuple[str, str], object]], noise: bytes
) -> None:
    with hub.http() as client:
        client.post("/api/repos/create", json={"name": "fuzz"})
        body = b"".join(json.dumps({"key": key, "value": value}).encode() + b"\n" for key, value in items)
        for content in (body, lines() + body, noise):
            assert client.post("/api/models/anna/fuzz/commit/main", content=content).status_code < 500
        for (method, path), value in asked:
            for content in (json.dumps(value).encode(), noise):
                head = {"content-type": "application/json"}
                assert client.request(method, path, content=content, headers=head).status_code in (
                    *range(200, 500),
                    501,
                )
        address = "/" + noise.decode("latin-1").replace("\r", "").replace("\n", "")
        assert (
            httpx.get(hub.url + "/api/models/anna/fuzz/tree/main", params={"cursor": address}, timeout=120).status_code
            < 500
        )


def test_what_other_hubs_have_is_named(hub: hubs.Running) -> None:
    with hub.http() as client:
        client.post("/api/repos/create", json={"name": "plain"})
        for method, path in (("POST", "/api/collections"), ("GET", "/api/jobs/anna"), ("GET", "/api/settings/webhooks"),
                             ("POST", "/api/spaces/anna/plain/secrets"), ("GET", "/api/buckets/anna/b")):  # fmt: skip
            answer = client.request(method, path, json={})
            assert answer.status_code == 501 and "no " in answer.json()["error"], path


def test_a_quota_is_held(place: object, hub: hubs.Running) -> None:
    from dataclasses import replace

    api = hub.api("quentin")
    api.create_repo("full")
    api.upload_file(path_or_fileobj=os.urandom(60_000), path_in_repo="a.bin", repo_id="quentin/full")
    from allmend.hub import owned
    from allmend.hub.faults import Fault
    from allmend.hub.looking import looking

    hub.server.hub.limits = replace(hub.server.hub.limits, quota=100_000)
    try:
        with looking() as connection, pytest.raises(Fault, match="do not fit"):
            owned.check_quota(connection, "quentin", 60_000, 100_000)
        ask = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 60_000}]}
        with hub.http("quentin") as client:
            assert client.post("/quentin/full.git/info/lfs/objects/batch", json=ask).status_code == 413
    finally:
        hub.server.hub.limits = replace(hub.server.hub.limits, quota=None)


def test_who_did_what_is_written_down(hub: hubs.Running) -> None:
    from allmend.access import audit

    api = hub.api("audrey")
    api.create_repo("log")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="audrey/log")
    api.delete_repo("audrey/log")
    found = [(entry.action, entry.target) for entry in audit.read(actor="audrey")]
    assert found == [(each, "model/audrey/log") for each in ("repo.delete", "repo.commit", "repo.create")]


def test_a_name_that_ends_with_a_space_is_answered(hub: hubs.Running) -> None:
    with hub.http() as client:
        client.post("/api/repos/create", json={"name": "spaced"})
        for path in (" ", "a\u00e9 ", "x\t"):
            body = lines(("deletedFile", {"path": path}))
            answer = client.post("/api/models/anna/spaced/commit/main", content=body)
            assert 400 <= answer.status_code < 500 and answer.headers["x-error-message"].strip()
