"""What routes beside text owe their caller's key: its scope on the model, its limits, a row in the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from starlette.requests import Request

from allmend.serving import visit as visits
from allmend.serving.faults import Fault
from allmend.serving.services import Service


@dataclass
class Charge:
    """What was used."""

    prompt: int = 0
    completion: int = 0


@asynccontextmanager
async def charged(request: Request, scope: str, service: Service) -> AsyncIterator[Charge]:
    """Compute inside: the key must cover the model, and what `Charge` holds at the end is written down.

    Raises:
        Fault: 403 where the key does not cover the model, 503 where the ledger cannot be written.
    """
    visit = visits.of(request)
    if not visit.principal.allows(scope, service.name):
        words = f"This key does not cover {scope} on {service.name}."
        raise Fault(403, words, type="permission_error", code="insufficient_scope")
    target: Any = SimpleNamespace(base=service, label=None)
    visit.open(target)
    charge = Charge()
    yield charge
    await visit.settle(prompt=charge.prompt, cached=0, completion=charge.completion)
