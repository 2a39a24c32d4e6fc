"""What a hub lists of a model: file names, sizes, and the small files that describe it. No weights are fetched."""

from __future__ import annotations

import os
from typing import Any

from allmend.errors import FetchError, NotFound

_TEXTS = ("config.json", "adapter_config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json",
          "chat_template.jinja", "chat_template.json", "README.md")  # fmt: skip
_LARGEST = 10 * 2**20


def listing(name: str, revision: str) -> tuple[dict[str, str], list[tuple[str, int]], int, str]:
    """Texts by name, (file, bytes) rows, the number of parameters (0 when not known), and the commit.

    Raises `NotFound` when the hub knows no such model and `FetchError` when it cannot be asked.
    """
    import httpx

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    headers = {"authorization": f"Bearer {token}"} if (token := os.environ.get("HF_TOKEN")) else {}
    try:
        with httpx.Client(follow_redirects=True, timeout=20, headers=headers) as client:
            answer = client.get(f"{endpoint}/api/models/{name}/revision/{revision}", params={"blobs": "true"})
            if answer.status_code in (401, 403, 404):
                raise NotFound(
                    "there is no such file, and the hub shows no such model", where=name,
                    hint="A private or gated model needs HF_TOKEN; another hub is named by HF_ENDPOINT.",
                )  # fmt: skip
            if answer.status_code != 200:
                raise FetchError(f"the hub answered {answer.status_code}", where=f"{endpoint}/{name}")
            info: dict[str, Any] = answer.json()
            rows = [
                row
                for row in info.get("siblings", [])
                if isinstance(row, dict) and isinstance(row.get("rfilename"), str)
            ]
            files = [(row["rfilename"], int(row.get("size") or 0)) for row in rows[:5000]]
            names = {file for file, _ in files}
            texts: dict[str, str] = {}
            for file in _TEXTS:
                if file in names:
                    texts[file] = _text(client, f"{endpoint}/{name}/resolve/{info.get('sha') or revision}/{file}")
    except httpx.HTTPError as error:
        raise FetchError(f"the hub cannot be asked ({type(error).__name__})", where=endpoint,
                         hint="Give a folder or file instead, or name a hub that can be reached with HF_ENDPOINT.") from None  # fmt: skip
    except ValueError:
        raise FetchError("the hub's answer cannot be read", where=endpoint) from None
    weights = info.get("safetensors")
    total = weights.get("total") if isinstance(weights, dict) else None
    return texts, files, total if isinstance(total, int) else 0, str(info.get("sha") or revision)


def _text(client: Any, address: str) -> str:
    with client.stream("GET", address) as response:
        if response.status_code != 200:
            return ""
        parts: list[bytes] = []
        size = 0
        for part in response.iter_bytes():
            size += len(part)
            if size > _LARGEST:
                return ""
            parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")
