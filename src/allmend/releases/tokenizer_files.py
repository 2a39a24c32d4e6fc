"""The tokenizer of an artefact's folder, as transformers loads it; read once for all who ask, while its files stay.

A vocabulary of a quarter of a million takes seconds to read, and audit and consumer both want it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer; raises whatever its files make transformers raise."""
    stamps = tuple(
        (path.name, path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix != ".safetensors"
    )
    return _loaded(folder.absolute(), stamps)


@lru_cache(maxsize=1)
def _loaded(folder: Path, stamps: tuple[tuple[str, int, int], ...]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
