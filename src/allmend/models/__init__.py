"""Models: references, the catalogue, fetching, converting and loading.

    resolve(ref)          ModelRef or text -> Model: looks it up, fetches it if it must, verifies it
    loading.load(model)   Model -> Loaded: transformers model, tokenizer, and the choices made with reasons

Importing this room imports no torch; `loading` and `gguf` do.
"""

from __future__ import annotations

from allmend.models.catalogue import catalogue
from allmend.models.reference import parse
from allmend.models.resolve import resolve

__all__ = ["catalogue", "parse", "resolve"]
