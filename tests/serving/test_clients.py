"""Twenty calls each of clients that people use: LangChain, LiteLLM, the `llm` tool.

Their requirements exclude the versions of others that are used here (LiteLLM holds huggingface-hub below 2), so they
have an environment of their own, made once a machine by the first run.
"""

from __future__ import annotations

from typing import Any

import pytest

from allmend.serving.server import Server

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("client", ["langchain", "litellm", "llm"])
def test_twenty_calls_of_stock_clients_work(client: str, stock_client: Any, server: Server, base: str) -> None:
    done = stock_client(client, f"{server.url}/v1", base)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("ok ") >= 20


def test_stock_clients_embed_texts_and_tokens(stock_client: Any, more: Server) -> None:
    model = next(service.name for service in more.registry.services.all() if service.kind == "embed")
    done = stock_client("embedding", f"{more.url}/v1", model)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("ok ") == 8
