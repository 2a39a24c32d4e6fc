"""A server on a loopback port over a tiny model with two adapters, all written to disk as people have them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from openai import OpenAI

import encoders
import tiny
from allmend.serving.server import Server
from allmend.verbs.serve import start

PACKAGES = ("langchain-openai==1.7.3", "litellm==1.106.2", "llm==0.32.1", "mcp", "httpx>=0.27")
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


@pytest.fixture(scope="session")
def client_python() -> Path:
    """The interpreter of the clients' environment."""
    mark = hashlib.sha256(" ".join((*PACKAGES, sys.version)).encode()).hexdigest()[:12]
    named = os.environ.get("ALLMEND_TEST_HOME")
    cache = Path(named) if named else Path.home() / ".cache" / "allmend-tests"
    folder = cache / f"clients-{mark}"
    if not (folder / "made").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=300)
        install = [str(folder / "bin" / "pip"), "install", "--quiet", "--no-input", *PACKAGES]
        subprocess.run(install, check=True, timeout=500)
        (folder / "made").touch()
    return folder / "bin" / "python"


@pytest.fixture
def stock_client(client_python: Path) -> Callable[..., Any]:
    """Runs the script of one of the clients that people use, with its arguments."""

    def run(client: str, *arguments: str) -> Any:
        script = Path(__file__).parent / "clients" / f"{client}_calls.py"
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OPENAI"))}
        environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false", "NO_PROXY": "127.0.0.1"}
        command = [str(client_python), str(script), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)

    return run
