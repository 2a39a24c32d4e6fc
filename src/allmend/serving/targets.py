"""What is served, and what of it a request asks for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from allmend.data.templates import PLAIN, Template, of_tokenizer
from allmend.engines.text import AdapterUse, TextEngine
from allmend.engines.token_bytes import TokenBytes

if TYPE_CHECKING:
    from allmend.nouns.model import Model
    from allmend.serving.shelf import Shelf

_PLAIN_STOPS = ("\nUser:", "\nSystem:", "\nResult:", "\nAssistant:")
"""Beginnings of a turn in the plain template. The names of its roles are held equal to it by a test."""


class Served(Protocol):
    """What is to be known of a model that is served; `Loaded` has it."""

    about: Model
    tokenizer: Any
    template: str | None


@dataclass(frozen=True)
class Base:
    """A base model that is served."""

    name: str
    engine: TextEngine
    tokenizer: Any
    template: Template
    digest: str
    source: str
    created: int
    token_bytes: TokenBytes = field(repr=False)
    answer_limit: int
    """Most tokens of a chat answer whose request names no limit."""
    shelf: Shelf = field(repr=False, compare=False)
    """Which of its adapters are in memory: of this very model, also once another answers under its name."""


@dataclass(frozen=True)
class ServedAdapter:
    """An adapter that is served."""

    name: str
    base: str
    digest: str
    """SHA-256 of its weights file."""
    identity: str
    """`AdapterWeights.identity`: its scaling counts too."""
    source: str
    template: Template | None
    created: int


@dataclass(frozen=True)
class Target:
    """What a request asked for."""

    base: Base
    adapters: tuple[ServedAdapter, ...]
    uses: tuple[AdapterUse, ...]

    @property
    def template(self) -> Template:
        """The template of the adapters, where they agree on one, else the base's."""
        found = {adapter.template for adapter in self.adapters if adapter.template is not None}
        return found.pop() if len(found) == 1 else self.base.template

    @property
    def turn_stops(self) -> tuple[str, ...]:
        """Text that ends an answer: a model that does not end its turn itself would go on with the other's."""
        return _PLAIN_STOPS if self.template.is_plain else ()

    @property
    def drops_space(self) -> bool:
        """Whether answers begin with a space that belongs to the template: the plain one asks without it."""
        return self.template.is_plain

    @property
    def label(self) -> str | None:
        """The adapters in words: `mine`, or `mine*0.5+yours`."""
        words = [use.name if use.scale == 1 else f"{use.name}*{use.scale:g}" for use in self.uses]
        return "+".join(words) or None


def served_base(loaded: Served, engine: TextEngine, shelf: Shelf, name: str | None, answer_limit: int) -> Base:
    """A loaded model as it is served: under its own name where none is given."""
    about = loaded.about
    template = Template("model", loaded.template) if loaded.template else of_tokenizer(loaded.tokenizer)
    return Base(
        name or about.name,
        engine,
        loaded.tokenizer,
        PLAIN if template.is_plain else template,
        about.digest,
        str(about.base or about.name),
        int(time.time()),
        TokenBytes(loaded.tokenizer),
        answer_limit,
        shelf,
    )
