"""A server on a loopback port over a tiny model with two adapters, all written to disk as people have them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from openai import OpenAI

import encoders
import tiny
from allmend.serving.server import Server
from allmend.verbs.serve import start

TEMPLATE = (
    "{% if tools %}[tools]{{ tools | tojson }}<tool_call>{% endif %}"
    "{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@dataclass
class Folders:
    """Where the files lie."""

    base: Path
    adapters: dict[str, Path]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A llama of two layers without a chat template, and adapters written by PEFT."""
    from peft import LoraConfig, get_peft_model

    root = tmp_path_factory.mktemp("served")
    base = tiny.model("llama")
    base.save_pretrained(root / "tiny-llama")
    tiny.tokenizer().save_pretrained(root / "tiny-llama")
    adapters = {}
    for name, seed in (("mine", 1), ("yours", 2)):
        tuned = get_peft_model(tiny.model("llama"), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))
        torch.manual_seed(seed)
        for parameter_name, parameter in tuned.named_parameters():
            if "lora_" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.3)
        tuned.save_pretrained(root / name)
        adapters[name] = root / name
    (adapters["yours"] / "chat_template.jinja").write_text(TEMPLATE)
    return Folders(root / "tiny-llama", adapters)


@pytest.fixture(scope="session")
def server(folders: Folders) -> Iterator[Server]:
    """The server; its model is called by its folder's path."""
    adapters = [f"{name}={folder}" for name, folder in folders.adapters.items()]
    with start(str(folders.base), adapter=adapters, port=0, dtype="float32", memory="64M") as running:
        yield running


@pytest.fixture(scope="session")
def base(server: Server) -> str:
    """Name of the base model."""
    return server.registry.bases()[0].name


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    """The stock client, without retries: a failure shows at once."""
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


NORMS = """
[[must_not]]
name = "no phone numbers"
on = "held-out"
pattern = '\\d{3}-\\d{4}'

[[must]]
name = "is polite"
on = "held-out"
pattern = "(?i)please|thank"
"""
NOTES = {
    "garden.md": "# Garden\n\nTomatoes need sun and water every day.\n\n# Bread\n\nIt bakes for forty minutes.",
    "train.html": "<head><script>evil()</script></head><body><p>The train to Bern leaves at nine.</p></body>",
    "deep/cell.ipynb": json.dumps({"cells": [{"cell_type": "markdown", "source": ["A notebook on whales."]}]}),
    "broken.pdf": "this is no pdf",
    "picture.png": "no text",
}


@pytest.fixture(scope="session")
def more(tmp_path_factory: pytest.TempPathFactory, folders: Folders) -> Iterator[Server]:
    """A language model, an embedding model, a cross-encoder, norms and an index in one server."""
    root = tmp_path_factory.mktemp("more")
    (root / "norms.toml").write_text(NORMS)
    for name, text in NOTES.items():
        (root / "notes" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "notes" / name).write_text(text)
    models = [str(folders.base), str(encoders.folder(root / "embed")), str(encoders.ranker(root / "rank"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLMEND_HOME", str(root / "home"))
        from allmend.verbs.index import index

        index(root / "notes", name="notes", model=models[1])
        running = start(models, port=0, dtype="float32", memory="64M", norms=str(root / "norms.toml"), index=["notes"])
    with running:
        yield running
