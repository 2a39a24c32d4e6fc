"""From a hub and back by commands alone: a base that lies there is tuned, the release goes there and is verified."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hubs
import tiny


class Person:
    """Somebody with a shell: `HF_ENDPOINT`, `HF_TOKEN`, a home of their own."""

    def __init__(self, hub: hubs.Running, folder: Path, name: str) -> None:
        self.folder = folder
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "ALLMEND_"))}
        self.environment = {
            **kept, "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.person(name), "HF_HOME": str(folder / "hf"),
            "ALLMEND_HOME": str(folder / "home"), "HF_HUB_DISABLE_TELEMETRY": "1",
        }  # fmt: skip

    def allmend(self, *words: str) -> str:
        """What a command prints."""
        done = subprocess.run(
            [sys.executable, "-m", "allmend", *words], cwd=self.folder, env=self.environment, capture_output=True,
            text=True, timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout


def table(path: Path) -> None:
    """Rows whose label stands in the prompt."""
    numbers = random.Random(0)
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("prompt", "completion"))
        for _ in range(240):
            label = numbers.choice(["cat", "dog"])
            writer.writerow((f"{''.join(numbers.choices('abcdefgh', k=4))} {label}?", label))


def found_by(api: Any, name: str) -> dict[str, Any]:
    """What the hub found in a repository, when it has looked."""
    until = time.monotonic() + 300
    trust: dict[str, Any] = {}
    while trust.get("state") != "done":
        trust = api.model_info(name).trust
        assert trust["state"] != "failed" and time.monotonic() < until, trust
        time.sleep(0.2)
    return trust


def test_a_base_of_the_hub_is_tuned_and_its_release_verified_there(place: Path, tmp_path: Path) -> None:
    tiny.model("llama", initializer_range=0.15).save_pretrained(tmp_path / "base")
    tiny.tokenizer().save_pretrained(tmp_path / "base")
    table(tmp_path / "rows.csv")
    with hubs.running(place / "ring", inspect=True) as hub:
        person, api = Person(hub, tmp_path, "rita"), hub.api("rita")
        api.create_repo("base", private=True)
        first = api.upload_folder(repo_id="rita/base", folder_path=tmp_path / "base").oid
        # The branch goes on: what was named is the first commit.
        api.upload_file(repo_id="rita/base", path_in_repo="config.json", path_or_fileobj=b"{}")

        said = person.allmend(
            "tune", "rows.csv", "--model", f"rita/base@{first}", "--budget", "10s", "--rank", "4", "--learning-rate",
            "1e-2", "--dtype", "float32", "--epochs", "4", "--json",
        )  # fmt: skip
        person.allmend("ship", "key", "key")
        target = f"hub://{hub.url.removeprefix('http://')}/rita/release"
        person.allmend("ship", json.loads(said)["id"], "--sign", "key", "--prompts", "4", "--to", target)

        trust = found_by(api, "rita/release")
        assert trust["release"]["ok"] is True and trust["release"]["signer"], trust["release"]
        assert "rita/base" in json.dumps(trust["release"]["lineage"])
        plan = person.allmend("plan", "rita/release")
        assert "verifying its bytes and statements found nothing wrong" in " ".join(plan.split())

        weights = next(each for each in api.list_repo_files("rita/release") if each.endswith(".safetensors"))
        data = bytearray(Path(api.hf_hub_download("rita/release", weights, cache_dir=tmp_path / "c")).read_bytes())
        data[-1] ^= 1
        api.upload_file(repo_id="rita/release", path_in_repo=weights, path_or_fileobj=bytes(data))
        trust = found_by(api, "rita/release")
        assert trust["release"]["ok"] is False and trust["release"]["problems"]
        plan = person.allmend("plan", "rita/release")
        assert "verifying it found" in " ".join(plan.split())
