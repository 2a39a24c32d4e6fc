"""What routes beside text owe their caller's key: its scope on the model, its limits, its turn, a row in the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from allmend.serving import visit as visits
from allmend.serving.gate import Overloaded
from allmend.serving.running import ClientGone

if TYPE_CHECKING:
    from allmend.access.ledger import Unit

AT_ONCE = 4
"""Requests that a model works on beside each other: each of them has a thread, and the server has forty for all."""
_LOOK_FOR_CLIENT = 0.5
"""Seconds between looks whether a client that waits for its turn is still there."""


@dataclass
class Charge:
    """What was used, in the unit that was named."""

    prompt: int = 0
    completion: int = 0
    goes_on: bool = False
    """The answer is worked on until its last byte is sent: its turn ends with the request."""


def refuse_early(request: Request, model: str, at_once: int = AT_ONCE) -> None:
    """Raise `Fault` 429 where `charged` would, for want of room in time: before a request has cost anything."""
    visit = visits.of(request)
    try:
        gate = visit.desk.gate_of(model, at_once)
        gate.check(visit.share, priority=visit.priority, deadline=visit.deadline)
    except Overloaded as error:
        raise visits.overloaded(error) from None


@asynccontextmanager
async def charged(
    request: Request,
    scope: str,
    model: str,
    *,
    most: int = 0,
    unit: Unit = "tokens",
    resource: str | None = None,
    at_once: int = AT_ONCE,
    queue: str | None = None,
) -> AsyncIterator[Charge]:
    """Compute inside: the key must cover it, its turn has come, and what `Charge` holds at the end is written down.

    Args:
        model: the name by which it is billed.
        most: tokens that it can need; set aside before anything is computed, so that limits hold whatever runs at once.
        unit: what is counted. Limits are of tokens; other units are written down and bound by limits of requests.
        resource: what the scope is asked for; the model where not given.
        at_once: requests that the model works on beside each other.
        queue: before what it waits; before the model where not given.

    Raises:
        Fault: 403 where the key does not cover it, 429 beyond its limits or where it would wait too long, 408 at its
            deadline, 503 where the ledger cannot be written.
        ClientGone: nobody waits for the answer any more.
    """
    visit = visits.of(request)
    visit.require_resource(scope, resource or model)
    try:
        visit.queue(visit.desk.gate_of(queue or model, at_once), tokens=most)
    except Overloaded as error:
        raise visits.overloaded(error) from None
    if unit == "tokens":
        visit.reserve(most)
    while not await visit.turn(_LOOK_FOR_CLIENT):
        if await request.is_disconnected():
            raise ClientGone
    visit.open(model, unit=unit)
    charge = Charge()
    yield charge
    if not charge.goes_on:
        visit.leave_gate()
    await visit.settle(prompt=charge.prompt, cached=0, completion=charge.completion)
