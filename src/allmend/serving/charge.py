"""What routes beside text owe their caller's key: its scope on the model, its limits, a row in the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from allmend.serving import visit as visits
from allmend.serving.faults import Fault

if TYPE_CHECKING:
    from allmend.access.ledger import Unit


@dataclass
class Charge:
    """What was used, in the unit that was named."""

    prompt: int = 0
    completion: int = 0


@asynccontextmanager
async def charged(
    request: Request, scope: str, model: str, *, most: int = 0, unit: Unit = "tokens", resource: str | None = None
) -> AsyncIterator[Charge]:
    """Compute inside: the key must cover it, and what `Charge` holds at the end is written down.

    Args:
        model: the name by which it is billed.
        most: tokens that it can need; set aside before anything is computed, so that limits hold whatever runs at once.
        unit: what is counted. Limits are of tokens; other units are written down and bound by limits of requests.
        resource: what the scope is asked for; the model where not given.

    Raises:
        Fault: 403 where the key does not cover it, 429 beyond its limits, 503 where the ledger cannot be written.
    """
    visit = visits.of(request)
    named = resource or model
    if not visit.principal.allows(scope, named):
        words = f"This key does not cover {scope} on {named}."
        raise Fault(403, words, type="permission_error", code="insufficient_scope")
    if unit == "tokens":
        visit.reserve(most)
    visit.open(model, unit=unit)
    charge = Charge()
    yield charge
    await visit.settle(prompt=charge.prompt, cached=0, completion=charge.completion)
