"""The stock Hub client, in its current version, with nothing of ours on its side."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfFileSystem
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

import hubs


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder as people upload one: a card, a small file, a large one, one in a folder."""
    folder = tmp_path / "model"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\ntags: [tiny]\nlibrary_name: transformers\n---\n# A model\n")
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    (folder / "weights.bin").write_bytes(os.urandom(400_000))
    (folder / "deep" / "er" / "notes.txt").write_text("deep\n")
    (folder / "empty.txt").write_text("")
    return folder


def test_a_folder_goes_up_and_comes_back_byte_for_byte(hub: hubs.Running, model: Path, tmp_path: Path) -> None:
    api = hub.api()
    url = api.create_repo("round")
    assert (url.repo_id, url.repo_type, str(url)) == ("anna/round", "model", f"{hub.url}/anna/round")
    with pytest.raises(HfHubHTTPError) as taken:
        api.create_repo("anna/Round")
    assert taken.value.response.status_code == 409
    api.create_repo("round", exist_ok=True)
    done = api.upload_folder(repo_id="anna/round", folder_path=model, commit_message="First")
    back = Path(api.snapshot_download("anna/round", cache_dir=tmp_path / "cache"))
    for path in model.rglob("*"):
        if path.is_file():
            assert (back / path.relative_to(model)).read_bytes() == path.read_bytes()
    info = api.model_info("anna/round", files_metadata=True)
    assert info.sha == done.oid and info.private is False and info.library_name == "transformers"
    assert {"license:mit", "tiny", "llama", "text-generation"} <= set(info.tags)
    weights = next(each for each in info.siblings if each.rfilename == "weights.bin")
    assert weights.lfs.size == weights.size == 400_000
    # Sent again, nothing changes and no commit is made.
    assert api.upload_folder(repo_id="anna/round", folder_path=model).oid == done.oid
    assert [each.title for each in api.list_repo_commits("anna/round")] == ["First", "initial commit"]
    checked = api.verify_repo_checksums("anna/round", cache_dir=tmp_path / "cache")
    assert checked.checked_count == 6 and not checked.mismatches


def test_a_large_folder_goes_up_in_several_commits(hub: hubs.Running, tmp_path: Path) -> None:
    api = hub.api()
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        (folder / f"row-{number:03d}.txt").write_text(f"{number}\n")
    (folder / "big.safetensors").write_bytes(os.urandom(300_000))
    api.create_repo("many", repo_type="dataset")
    for number in range(300):
        (folder / f"more-{number:03d}.bin").write_bytes(bytes([0, number % 256]) * 20)
    # More than fit one commit of the client: it uploads and commits in several, side by side.
    api.upload_folder(repo_id="anna/many", repo_type="dataset", folder_path=folder)
    assert len(api.list_repo_files("anna/many", repo_type="dataset")) == 342


def test_files_are_copied_moved_and_deleted(hub: hubs.Running, model: Path) -> None:
    api = hub.api()
    api.create_repo("shuffle")
    api.upload_folder(repo_id="anna/shuffle", folder_path=model)
    api.create_commit(
        "anna/shuffle",
        [
            CommitOperationCopy("weights.bin", "copied.bin"),
            CommitOperationCopy("config.json", "deep/config.json"),
            CommitOperationDelete("empty.txt"),
            CommitOperationDelete("deep/er/"),
        ],
        commit_message="Shuffle",
    )
    files = api.list_repo_files("anna/shuffle")
    assert files == [".gitattributes", "README.md", "config.json", "copied.bin", "deep/config.json", "weights.bin"]
    with pytest.raises(EntryNotFoundError):
        api.create_commit("anna/shuffle", [CommitOperationDelete("nowhere")], commit_message="No")
    api.create_repo("other")
    api.create_commit(
        "anna/other",
        [CommitOperationCopy("weights.bin", "w.bin", src_repo_id="anna/shuffle", src_repo_type="model")],
        commit_message="From another",
    )
    assert api.get_paths_info("anna/other", ["w.bin"])[0].lfs.size == 400_000
    api.move_repo("anna/shuffle", "anna/moved")
    assert api.model_info("anna/shuffle").id == "anna/moved"
    assert api.file_exists("anna/shuffle", "copied.bin")
    api.delete_repo("anna/moved")
    assert not api.repo_exists("anna/moved")
    api.delete_repo("anna/moved", missing_ok=True)


def test_branches_tags_and_histories(hub: hubs.Running) -> None:
    api = hub.api()
    api.create_repo("refs")
    first = api.upload_file(path_or_fileobj=b"1", path_in_repo="n.txt", repo_id="anna/refs").oid
    api.create_tag("anna/refs", tag="v1", tag_message="One")
    api.create_branch("anna/refs", branch="next/try")
    second = api.upload_file(path_or_fileobj=b"2", path_in_repo="n.txt", repo_id="anna/refs", revision="next/try").oid
    refs = api.list_repo_refs("anna/refs")
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": first, "next/try": second}
    assert [(ref.ref, ref.target_commit) for ref in refs.tags] == [("refs/tags/v1", first)]
    read = HfFileSystem(endpoint=hub.url, token=hub.person("anna"), use_listings_cache=False).read_text
    assert [read(f"anna/refs@{rev}/n.txt") for rev in ("v1", second, "next%2Ftry")] == ["1", "2", "2"]
    api.create_branch("anna/refs", branch="next/try", exist_ok=True)
    with pytest.raises(RevisionNotFoundError):
        api.upload_file(path_or_fileobj=b"3", path_in_repo="n.txt", repo_id="anna/refs", revision="nowhere")
    with pytest.raises(HfHubHTTPError, match="Please refresh"):
        api.create_commit("anna/refs", [CommitOperationAdd("n.txt", b"4")], commit_message="Late",
                          revision="next/try", parent_commit=first)  # fmt: skip
    api.delete_branch("anna/refs", branch="next/try")
    api.delete_tag("anna/refs", tag="v1")
    with pytest.raises(HfHubHTTPError):
        api.delete_branch("anna/refs", branch="main")
    api.super_squash_history("anna/refs")
    assert len(api.list_repo_commits("anna/refs")) == 1
    with pytest.raises(RevisionNotFoundError):
        api.model_info("anna/refs", revision=second)


def test_pull_requests(hub: hubs.Running) -> None:
    anna, bert = hub.api(), hub.api("bert")
    anna.create_repo("asked", repo_type="dataset")
    rows = "id,text\n1,one\n2,two\n3,three\n"
    anna.upload_file(path_or_fileobj=rows.encode(), path_in_repo="d.csv", repo_id="anna/asked", repo_type="dataset")
    changed = "id,text\n1,one\n2,TWO\n4,four\n"
    with pytest.raises(HfHubHTTPError):
        bert.upload_file(path_or_fileobj=b"x", path_in_repo="d.csv", repo_id="anna/asked", repo_type="dataset")
    made = bert.create_commit("anna/asked", [CommitOperationAdd("d.csv", changed.encode()),
                                             CommitOperationAdd("w.bin", os.urandom(100_000))],
                              commit_message="Better rows", repo_type="dataset", create_pr=True)  # fmt: skip
    assert (made.pr_num, made.pr_revision) == (1, "refs/pr/1")
    bert.upload_file(path_or_fileobj=b"more", path_in_repo="more.txt", repo_id="anna/asked", repo_type="dataset",
                     revision="refs/pr/1")  # fmt: skip
    with pytest.raises(HfHubHTTPError):
        hub.api("carl").upload_file(path_or_fileobj=b"no", path_in_repo="more.txt", repo_id="anna/asked",
                                    repo_type="dataset", revision="refs/pr/1")  # fmt: skip
    said = bert.comment_discussion("anna/asked", 1, "Please look", repo_type="dataset")
    bert.edit_discussion_comment("anna/asked", 1, said.id, "Please look at it", repo_type="dataset")
    anna.rename_discussion("anna/asked", 1, "Much better rows", repo_type="dataset")
    with hub.http() as client:
        shown = client.get("/api/datasets/anna/asked/discussions/1", params={"diff": "1"}).json()
    table = shown["rows"][0]
    assert (table["added"], table["removed"], table["changed"], table["matched_by"]) == (1, 1, 1, "id")
    assert table["examples"]["changed"][0]["after"] == {"id": "2", "text": "TWO"}
    assert "-2,two" in shown["diff"] and shown["filesWithConflicts"] == []
    with pytest.raises(HfHubHTTPError):
        bert.merge_pull_request("anna/asked", 1, repo_type="dataset")
    anna.merge_pull_request("anna/asked", 1, repo_type="dataset")
    details = anna.get_discussion_details("anna/asked", 1, repo_type="dataset")
    assert details.status == "merged" and details.merge_commit_oid
    assert [event.type for event in details.events][-1] == "status-change"
    assert "more.txt" in anna.list_repo_files("anna/asked", repo_type="dataset")
    # Two that change the same file: the second is told of the conflict, and nothing of it arrives.
    for text in ("left", "right"):
        bert.create_commit("anna/asked", [CommitOperationAdd("d.csv", text.encode())], commit_message=text,
                           repo_type="dataset", create_pr=True)  # fmt: skip
    anna.merge_pull_request("anna/asked", 2, repo_type="dataset")
    assert anna.get_discussion_details("anna/asked", 3, repo_type="dataset").conflicting_files == ["d.csv"]
    with pytest.raises(HfHubHTTPError, match="Both sides changed"):
        anna.merge_pull_request("anna/asked", 3, repo_type="dataset")
    anna.change_discussion_status("anna/asked", 3, "closed", repo_type="dataset")
    found = list(anna.get_repo_discussions("anna/asked", repo_type="dataset"))
    assert [(each.num, each.status, each.is_pull_request) for each in found] == [
        (3, "closed", True), (2, "merged", True), (1, "merged", True),
    ]  # fmt: skip


def test_private_repositories_do_not_exist_for_others(hub: hubs.Running) -> None:
    anna, bert, nobody = hub.api(), hub.api("bert"), hub.api(None)
    anna.create_repo("secret", private=True)
    anna.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="anna/secret")
    for api in (bert, nobody):
        for ask in (lambda api=api: api.model_info("anna/secret"),
                    lambda api=api: api.list_repo_refs("anna/secret"),
                    lambda api=api: api.hf_hub_download("anna/secret", "x.txt"),
                    lambda api=api: list(api.list_repo_tree("anna/secret"))):  # fmt: skip
            with pytest.raises(RepositoryNotFoundError):
                ask()
        assert "anna/secret" not in [each.id for each in api.list_models()]
    assert "anna/secret" in [each.id for each in anna.list_models(author="anna")]
    anna.update_repo_settings("anna/secret", private=False)
    assert nobody.model_info("anna/secret").private is False


def test_gated_repositories_open_for_those_let_in(hub: hubs.Running, tmp_path: Path) -> None:
    anna, bert = hub.api(), hub.api("bert")
    anna.create_repo("gate")
    anna.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="anna/gate")
    anna.update_repo_settings("anna/gate", gated="manual")
    assert hub.api(None).model_info("anna/gate").gated == "manual"
    for api in (bert, hub.api(None)):
        with pytest.raises(GatedRepoError):
            api.hf_hub_download("anna/gate", "x.txt", cache_dir=tmp_path / "none")
    with hub.http("bert") as client:
        assert client.post("/anna/gate/ask-access", json={"why": "study"}).json() == {"status": "pending"}
    asked = list(anna.list_pending_access_requests("anna/gate"))
    assert [(each.username, each.fields) for each in asked] == [("bert", {"why": "study"})]
    with pytest.raises(GatedRepoError, match="awaiting"):
        bert.auth_check("anna/gate")
    anna.accept_access_request("anna/gate", user="bert")
    assert Path(bert.hf_hub_download("anna/gate", "x.txt", cache_dir=tmp_path / "bert")).read_bytes() == b"x"
    anna.reject_access_request("anna/gate", user="bert", rejection_reason="Over")
    with pytest.raises(GatedRepoError):
        bert.auth_check("anna/gate")
    hub.person("carl")
    anna.grant_access("anna/gate", "carl")
    hub.api("carl").auth_check("anna/gate")


def test_the_file_system_reads_ranges_and_writes(hub: hubs.Running) -> None:
    api = hub.api()
    api.create_repo("files", repo_type="dataset")
    data = os.urandom(3_000_000)
    api.upload_file(path_or_fileobj=data, path_in_repo="a/data.bin", repo_id="anna/files", repo_type="dataset")
    fs = HfFileSystem(endpoint=hub.url, token=hub.person("anna"), use_listings_cache=False)
    with fs.open("datasets/anna/files/a/data.bin", block_size=65_536) as file:
        file.seek(1_234_567)
        assert file.read(1000) == data[1_234_567:1_235_567]
    with fs.open("datasets/anna/files/b.txt", "w") as file:
        file.write("written")
    fs.cp_file("datasets/anna/files/b.txt", "datasets/anna/files/c.txt")
    assert sorted(fs.glob("datasets/anna/files/*.txt")) == [
        "datasets/anna/files/b.txt", "datasets/anna/files/c.txt"
    ]  # fmt: skip
    fs.rm("datasets/anna/files/b.txt")
    assert not fs.exists("datasets/anna/files/b.txt") and fs.info("datasets/anna/files/a")["type"] == "directory"


def test_forks_keep_where_they_came_from(hub: hubs.Running) -> None:
    anna, bert = hub.api(), hub.api("bert")
    anna.create_repo("root")
    oid = anna.upload_file(path_or_fileobj=os.urandom(50_000), path_in_repo="w.bin", repo_id="anna/root").oid
    url = bert.duplicate_repo("anna/root", to_id="bert/branch")
    assert url.repo_id == "bert/branch"
    info = bert.model_info("bert/branch")
    assert info.sha == oid and info.forkedFrom == {"id": "anna/root", "commit": oid}
    bert.upload_file(path_or_fileobj=b"own", path_in_repo="own.txt", repo_id="bert/branch")
    assert not anna.file_exists("anna/root", "own.txt") and bert.file_exists("bert/branch", "w.bin")


def test_listings_search_filter_and_turn_pages(hub: hubs.Running) -> None:
    api = hub.api("lisa")
    for number in range(5):
        api.create_repo(f"list-{number}")
    card = b"---\ntags: [special_tag]\nlanguage: de\n---\n"
    api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id="lisa/list-3")
    assert [each.id for each in api.list_models(author="lisa", limit=2)] == ["lisa/list-3", "lisa/list-4"]
    assert [each.id for each in api.list_models(filter="special_tag")] == ["lisa/list-3"]
    assert [each.id for each in api.list_models(search="list_3")] == []
    assert [each.id for each in api.list_models(search="LIST-3")] == ["lisa/list-3"]
    with hub.http("lisa") as client:
        answer = client.get("/api/models", params={"author": "lisa", "limit": 2})
        seen = [each["id"] for each in answer.json()]
        while "next" in answer.links:
            answer = client.get(answer.links["next"]["url"])
            seen += [each["id"] for each in answer.json()]
    assert len(seen) == len(set(seen)) == 5


def test_cards_are_checked(hub: hubs.Running) -> None:
    api = hub.api()
    api.create_repo("card")
    for text in (b"---\ntags: {a: [\n---\n", b"---\na: &x [1]\nb: *x\n---\n", b"---\nlicense: 12\n---\n"):
        with pytest.raises((BadRequestError, ValueError)):
            api.upload_file(path_or_fileobj=text, path_in_repo="README.md", repo_id="anna/card")


def test_spaces_are_kept_as_repositories(hub: hubs.Running) -> None:
    api = hub.api()
    api.create_repo("page", repo_type="space", space_sdk="static")
    api.upload_file(path_or_fileobj=b"<h1>", path_in_repo="index.html", repo_id="anna/page", repo_type="space")
    assert api.space_info("anna/page").sdk == "static"
    with hub.http() as client:
        answer = client.get("/spaces/anna/page/resolve/main/index.html")
    assert (
        answer.headers["content-type"].startswith("text/plain")
        and "sandbox" in answer.headers["content-security-policy"]
    )
