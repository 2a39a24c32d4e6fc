"""llama.cpp through xllamacpp, in a process of its own: what it cannot read, it may end the process over.

The parent's side. `llamacpp_process` is the child's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from allmend.errors import Unavailable
from allmend.releases.parity.probes import Probes, Replies
from allmend.releases.parity.torch_consumers import CannotLoad

_LIMIT = 3600.0
"""Seconds; a child that takes longer is ended."""


def by_llamacpp(
    model: Path,
    probes: Probes,
    *,
    adapter: Path | None = None,
    template: str | None = None,
    decode: Callable[..., str] | None = None,
    threads: int | None = None,
) -> Replies:
    """Ask a GGUF file, with an adapter on it where one is given.

    Args:
        template: in the place of the file's own, as `--chat-template-file` gives it.
        decode: of the base's tokenizer, for answers that are no whole characters.

    Raises:
        CannotLoad: llama.cpp does not take the file; the message is its last words.
        Unavailable: xllamacpp is not installed.
    """
    if find_spec("xllamacpp") is None:
        raise Unavailable("parity of GGUF files needs xllamacpp", hint="pip install 'allmend[ship]'")
    begun = time.monotonic()
    longest = max(len(row.prompt) + len(row.answer) for row in probes.rows)
    order = {
        "model": str(model),
        "adapter": str(adapter) if adapter else None,
        "template": template,
        "threads": threads or _threads(),
        "context": max(256, longest + probes.answer_tokens + 16),
        "rows": [
            {"messages": list(map(dict, row.messages)), "prompt": row.prompt, "answer": row.answer}
            | ({"tools": list(map(dict, row.tools))} if row.tools else {})
            for row in probes.rows
        ],
        "labels": probes.label_ids,
        "written": probes.written,
        "answer_tokens": probes.answer_tokens,
        "end": probes.end,
    }
    answer = _ask(order)
    if "error" in answer:
        raise CannotLoad(answer["error"])
    return Replies(
        texts=answer["texts"],
        prompts=answer["prompts"],
        losses=answer["losses"],
        labels=answer["labels"] if probes.labels else None,
        answers=[_text(made, decode) for made in answer["answers"]],
        consumer=f"llama.cpp (xllamacpp {answer['version']})",
        seconds=time.monotonic() - begun,
    )


def _text(made: dict[str, Any], decode: Callable[..., str] | None) -> str:
    """llama.cpp's text; where it holds bytes back that make no character, the tokenizer's reading of its tokens."""
    read = decode(made["tokens"], skip_special_tokens=True) if decode is not None else ""
    return read if "\ufffd" in read else str(made["content"])


def _threads() -> int:
    import torch

    return int(torch.get_num_threads())


def _ask(order: dict[str, Any]) -> dict[str, Any]:
    import allmend

    source = str(Path(allmend.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        [sys.executable, "-m", "allmend.releases.parity.llamacpp_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    ) as child:
        try:
            out, words = child.communicate(json.dumps(order), timeout=_LIMIT)
        except BaseException:
            child.kill()
            raise
    try:
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        lines = [line.strip() for line in words.splitlines() if line.strip()]
        told = [line for line in lines if "rror" in line or "assert" in line.lower()] or lines or ["no words"]
        return {"error": f"llama.cpp ended with {child.returncode}: {told[-1][:300]}"}
    return found
