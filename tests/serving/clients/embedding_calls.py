"""Embeddings by LangChain and LiteLLM: URL MODEL. Prints one line for each call that did what it should."""

from __future__ import annotations

import asyncio
import sys

import litellm
import tiktoken
from langchain_openai import OpenAIEmbeddings
from langchain_openai.embeddings import base

url, model = sys.argv[1:]
settings = {"model": model, "base_url": url, "api_key": "none", "max_retries": 0}
texts = ["hello", "a longer text about something", "ünïcode"]


def check(name: str, value: object) -> None:
    """Fail loudly, or say that it worked."""
    if not value:
        raise SystemExit(f"{name}: {value!r}")
    print("ok", name)


def near(one: list[float], other: list[float]) -> bool:
    """Whether two vectors are the same but for rounding."""
    return len(one) == len(other) and max(abs(a - b) for a, b in zip(one, other, strict=True)) < 1e-5


plain = OpenAIEmbeddings(check_embedding_ctx_length=False, **settings)
vectors = plain.embed_documents(texts)
check("documents", len(vectors) == 3 and len(vectors[0]) == 32)
check("query", near(plain.embed_query("hello"), vectors[0]))
check("asynchronously", near(asyncio.run(plain.aembed_query("hello")), vectors[0]))
short = OpenAIEmbeddings(check_embedding_ctx_length=False, dimensions=8, **settings)
check("dimensions", len(short.embed_query("hello")) == 8)

# As it comes, LangChain sends token ids. Its tokenizer would be downloaded: this one is made of the bytes alone.
ranks = {bytes([value]): value for value in range(256)}
encoding = tiktoken.Encoding("bytes", pat_str=".", mergeable_ranks=ranks, special_tokens={})
base.tiktoken.encoding_for_model = lambda name: encoding
by_tokens = OpenAIEmbeddings(**settings).embed_documents(["abc", "abd"])
check("token ids", len(by_tokens) == 2 and len(by_tokens[0]) == 32 and not near(*by_tokens))

asked = {"model": model, "custom_llm_provider": "openai", "api_base": url, "api_key": "none"}
answer = litellm.embedding(input=texts, **asked)
check("litellm", near(answer.data[1]["embedding"], vectors[1]))
check("litellm usage", answer.usage.prompt_tokens > 0)
# LiteLLM passes the field on only for model names it knows, unless told.
shorter = litellm.embedding(input=["x"], dimensions=8, allowed_openai_params=["dimensions"], **asked)
check("litellm dimensions", len(shorter.data[0]["embedding"]) == 8)
