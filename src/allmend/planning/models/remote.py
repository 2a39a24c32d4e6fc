"""What a hub lists of a model: file names, sizes, and the small files that describe it. No weights are fetched."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from allmend.errors import FetchError, NotFound
from allmend.nouns.plan import Finding

_TEXTS = ("config.json", "adapter_config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json",
          "chat_template.jinja", "chat_template.json", "README.md")  # fmt: skip
_LARGEST = 10 * 2**20
_MOST = 200


@dataclass
class Inspection:
    """What a hub of this kind says that it found in the files, as far as it is what it should be.

    Attributes:
        files: files whose opcodes or headers it read.
        release: sentences about a release among them.
    """

    done: bool = False
    findings: list[Finding] = field(default_factory=list)
    files: frozenset[str] = frozenset()
    unread: list[str] = field(default_factory=list)
    release: list[str] = field(default_factory=list)


@dataclass
class Listing:
    """What a hub lists: texts by name, (file, bytes) rows, numbers in the weights (0 when not known), the commit."""

    texts: dict[str, str]
    files: list[tuple[str, int]]
    parameters: int
    commit: str
    inspection: Inspection


def listing(name: str, revision: str, endpoint: str | None = None) -> Listing:
    """What the hub at `endpoint`, unless named at HF_ENDPOINT, lists of a model.

    Raises `NotFound` when the hub knows no such model and `FetchError` when it cannot be asked.
    """
    import httpx

    endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
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
    count = total if isinstance(total, int) else 0
    return Listing(texts, files, count, str(info.get("sha") or revision), _inspection(info.get("trust")))


def _inspection(body: Any) -> Inspection:
    if not isinstance(body, dict) or body.get("schema") != "allmend.inspection/1" or body.get("state") != "done":
        return Inspection()
    made = Inspection(done=True)
    for row in _rows(body, "findings"):
        try:
            made.findings.append(Finding.model_validate(row))
        except ValidationError:
            made.unread.append("one of the hub's findings cannot be read")
    files = body.get("files")
    made.files = frozenset(str(key) for key in files) if isinstance(files, dict) else frozenset()
    made.unread += [str(row.get("reason"))[:300] for row in _rows(body, "unread") if isinstance(row, dict)]
    made.unread += [str(row)[:300] for row in _rows(body, "not_looked_at")]
    release = body.get("release")
    if isinstance(release, dict):
        made.release.append(_release(release))
    return made


def _rows(body: dict[str, Any], name: str) -> list[Any]:
    rows = body.get(name)
    return rows[:_MOST] if isinstance(rows, list) else []


def _release(release: dict[str, Any]) -> str:
    problems = [str(each)[:200] for each in _rows(release, "problems")]
    lineage = release.get("lineage")
    base = f" It was made from {str(lineage.get('base'))[:120]}." if isinstance(lineage, dict) else ""
    if release.get("ok") is None:
        return f"It is a release of allmend; the hub did not verify it.{base}"
    if problems or not release.get("ok"):
        return f"It is a release of allmend, and verifying it found: {'; '.join(problems[:3]) or 'problems'}.{base}"
    signer = release.get("signer")
    key = f" signed with the key of SHA-256 {str(signer)[:64]}," if signer else ""
    return f"It is a release of allmend,{key} and verifying its bytes and statements found nothing wrong.{base}"


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
