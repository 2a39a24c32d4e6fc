"""Twenty calls each of clients that people use: LangChain, LiteLLM, the `llm` tool.

Their requirements exclude the versions of others that are used here (LiteLLM holds huggingface-hub below 2), so they
have an environment of their own, made once a machine by the first run.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from allmend.serving.server import Server

pytestmark = pytest.mark.slow
PACKAGES = ("langchain-openai==1.7.3", "litellm==1.106.2", "llm==0.32.1", "mcp", "httpx>=0.27")


@pytest.fixture(scope="session")
def python() -> Path:
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


@pytest.mark.parametrize("client", ["langchain", "litellm", "llm"])
def test_twenty_calls_of_stock_clients_work(client: str, python: Path, server: Server, base: str) -> None:
    script = Path(__file__).parent / "clients" / f"{client}_calls.py"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OPENAI"))}
    environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [str(python), str(script), f"{server.url}/v1", base],
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("ok ") >= 20


def test_stock_clients_embed_texts_and_tokens(python: Path, more: Server) -> None:
    script = Path(__file__).parent / "clients" / "embedding_calls.py"
    model = next(service.name for service in more.registry.services.all() if service.kind == "embed")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OPENAI"))}
    environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [str(python), str(script), f"{more.url}/v1", model],
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("ok ") == 8
