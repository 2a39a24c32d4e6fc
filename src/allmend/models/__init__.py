"""Models: references, the catalogue, fetching, converting and loading.

    resolve(ref)          ModelRef or text -> Model: looks it up, fetches it if it must, verifies it
    loading.load(model)   Model -> Loaded: transformers model, tokenizer, and the choices made with reasons

Importing this room imports no torch; `loading` and `gguf` do.
"""

from __future__ import annotations

import os

# Before torch is imported: threads that wait sleep instead of spinning. Spinning gains nothing on an idle machine,
# and on a busy one each program burns the cores that the others wait for (see bench/waiting.json).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from allmend.models.catalogue import catalogue
from allmend.models.reference import parse
from allmend.models.resolve import resolve

__all__ = ["catalogue", "parse", "resolve"]
