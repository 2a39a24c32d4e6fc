"""transformers, datasets, the `hf` command and a server of models, against a hub, as people use them together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hubs

SCRIPT = """
import os, subprocess, sys
import datasets, tiny, transformers
from huggingface_hub import HfApi

base = tiny.model("llama")
base.push_to_hub("mona/tiny", safe_serialization=True)
tiny.tokenizer().push_to_hub("mona/tiny")
again = transformers.AutoModelForCausalLM.from_pretrained("mona/tiny")
words = transformers.AutoTokenizer.from_pretrained("mona/tiny")
assert all((a == b).all() for a, b in zip(base.parameters(), again.parameters()))
assert words("hello").input_ids == tiny.tokenizer()("hello").input_ids
assert transformers.AutoConfig.from_pretrained("mona/tiny", revision="main").model_type == "llama"

rows = datasets.Dataset.from_dict({"text": [f"row {n}" for n in range(500)], "label": list(range(500))})
rows.push_to_hub("mona/rows")
back = datasets.load_dataset("mona/rows", split="train")
assert back["label"] == rows["label"]
streamed = datasets.load_dataset("mona/rows", split="train", streaming=True)
assert [row["text"] for row in streamed.take(3)] == ["row 0", "row 1", "row 2"]
rows.push_to_hub("mona/rows", config_name="other", split="test", private=True)
assert len(datasets.load_dataset("mona/rows", "other", split="test")) == 500

def hf(*words):
    done = subprocess.run([os.path.join(os.path.dirname(sys.executable), "hf"), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

assert "mona" in hf("auth", "whoami")
open("note.txt", "w").write("by hand")
hf("repo", "create", "mona/by-hand")
hf("upload", "mona/by-hand", "note.txt")
hf("download", "mona/by-hand", "note.txt", "--local-dir", "fetched")
assert open("fetched/note.txt").read() == "by hand"
hf("repo", "tag", "create", "mona/by-hand", "v1")
assert [tag.name for tag in HfApi().list_repo_refs("mona/by-hand").tags] == ["v1"]
print("all of it")
"""


def test_transformers_datasets_and_the_command(hub: hubs.Running, tmp_path: Path) -> None:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("HF_", "ALLMEND_"))},
        "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.person("mona"), "HF_HOME": str(tmp_path / "hf"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path]), "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.stdout.endswith("all of it\n"), done.stderr[-4000:]


def test_a_pushed_adapter_is_a_running_model(
    hub: hubs.Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants as constants
    import torch
    from openai import NotFoundError, OpenAI
    from peft import LoraConfig, get_peft_model

    import tiny
    from allmend.verbs.serve import start

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", hub.person("petra"))
    api = hub.api("petra")
    # The base comes from the hub, too.
    base = tmp_path / "base"
    tiny.model("llama").save_pretrained(base)
    tiny.tokenizer().save_pretrained(base)
    api.create_repo("tiny-llama", private=True)
    api.upload_folder(repo_id="petra/tiny-llama", folder_path=base)
    host = hub.url.removeprefix("http://")

    def push(seed: int) -> str:
        tuned = get_peft_model(tiny.model("llama"), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))
        torch.manual_seed(seed)
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.5)
        tuned.save_pretrained(tmp_path / f"adapter-{seed}")
        api.create_repo("mine", exist_ok=True, private=True)
        return str(api.upload_folder(repo_id="petra/mine", folder_path=tmp_path / f"adapter-{seed}").oid)

    def say(client: OpenAI, model: str) -> str:
        message = [{"role": "user", "content": "Hello there"}]
        done = client.chat.completions.create(model=model, messages=message, max_tokens=12, temperature=0)  # type: ignore[arg-type]
        return str(done.choices[0].message.content)

    with start([f"hub://{host}/petra/tiny-llama@main"], port=0, dtype="float32", memory="64M") as server:
        client = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        plain = say(client, server.registry.bases()[0].name)
        with pytest.raises(NotFoundError):
            say(client, "petra/mine")
        first = push(1)
        assert say(client, "petra/mine") != plain
        second = push(2)
        said = {say(client, f"petra/mine@{first}"), say(client, f"petra/mine@{second}")}
        assert len(said) == 2 and say(client, "petra/mine") in said
        client.close()


def test_a_folder_is_published_where_a_reference_says(
    hub: hubs.Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from allmend.errors import Refused
    from allmend.models.publishing import is_target, publish

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("---\nlicense: mit\n---\n")
    monkeypatch.setenv("HF_TOKEN", hub.person("rosa"))
    target = f"hub://{hub.url.removeprefix('http://')}/rosa/release@next"
    assert is_target(target) and not is_target("some/folder") and not is_target("./rosa/release")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert is_target("rosa/release") and not is_target(str(tmp_path))
    done = publish(tmp_path / "out", target, message="Out")
    assert hub.api("rosa").model_info("rosa/release", revision="next").sha == done.commit
    with pytest.raises(Refused, match="takes nothing"):
        publish(tmp_path / "out", "petra/mine", message="Not mine")
