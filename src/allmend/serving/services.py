"""Models that are served beside those that write text: embeddings, ranking, speech in and out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allmend.errors import NotFound, UsageError, nearest
from allmend.models.kind import SAID, Kind
from allmend.serving.faults import Fault

if TYPE_CHECKING:
    from allmend.nouns.model import Model
    from allmend.serving.registry import Registry


@dataclass(frozen=True)
class Service:
    """A model that is served."""

    name: str
    kind: Kind
    engine: Any
    """As the protocol of its kind has it."""
    digest: str
    source: str
    created: int
    limit: int
    """Tokens that fit; 0 where there are none."""


class Services:
    """By name."""

    def __init__(self) -> None:
        self._named: dict[str, Service] = {}

    def add(self, about: Model, kind: Kind, engine: Any) -> Service:
        """Serve a model under its own name."""
        if about.name in self._named:
            raise UsageError(f"the name {about.name!r} is taken", hint="Every model needs a name of its own.")
        limit = int(getattr(engine, "limit", 0))
        source = str(about.base or about.name)
        made = Service(about.name, kind, engine, about.digest, source, int(time.time()), limit)
        self._named[about.name] = made
        return made

    def all(self) -> list[Service]:
        """In the order they were added."""
        return list(self._named.values())

    def get(self, name: str) -> Service | None:
        """One of them."""
        return self._named.get(name)

    def refuse_text(self, name: str) -> None:
        """Raise `UsageError` where a request for text names a model of another kind."""
        found = self._named.get(name)
        if found is not None:
            raise UsageError(f"the model {name!r} {SAID[found.kind]}; it does not write text", hint=_where(found.kind))

    def close(self) -> None:
        """Stop every engine."""
        for service in self._named.values():
            service.engine.close()


def find(registry: Registry, name: str, *kinds: Kind) -> Service:
    """The service that a request names.

    Raises:
        Fault: 400 where the model is of another kind.
        NotFound: there is no such model.
    """
    found = registry.services.get(name)
    if found is not None and found.kind in kinds:
        return found
    kind: Kind = found.kind if found is not None else "text"
    here = [service.name for service in registry.services.all() if service.kind in kinds]
    written = {base.name for base in registry.bases()} | {adapter.name for adapter in registry.adapters()}
    if found is not None or name in written:
        also = f" Here {', '.join(here)} could be asked." if here else " No model here does."
        words = f"The model {name!r} {SAID[kind]}; this route needs one that {SAID[kinds[0]]}.{also}"
        raise Fault(400, words, param="model", code="unsupported_model")
    hint = nearest(name, here) or f"No model that {SAID[kinds[0]]} is served here: add one to `allmend serve`."
    raise NotFound(f"The model {name!r} does not exist here", hint=hint)


def _where(kind: Kind) -> str:
    routes = {
        "embed": "/v1/embeddings",
        "rank": "/v1/rerank",
        "transcribe": "/v1/audio/transcriptions",
        "speak": "/v1/audio/speech",
    }
    return f"Ask for it at {routes.get(kind, '/v1/models')}."
