"""One request from its arrival to its end: whose it is, its place in the queue, what it used.

The middleware makes a visit for every request and ends it whatever happens; routes that compute something call
`begin` before and `settle` with what was used.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from allmend.access import users
from allmend.access.limits import Limits
from allmend.access.principal import Principal
from allmend.access.quotas import Admission, Exceeded, Holder
from allmend.errors import AllmendError, NotFound
from allmend.serving.desk import OPEN, Desk
from allmend.serving.faults import Fault
from allmend.serving.gate import Gate, Overloaded, Place, TooLate

if TYPE_CHECKING:
    from starlette.requests import Request

    from allmend.access.ledger import Unit
    from allmend.serving.targets import ServedAdapter, Target

_LONGEST_DEADLINE = 86400.0


class Visit:
    """One request. Its methods are called on the server's event loop.

    Attributes:
        principal: whose it is.
        headers: what the answer's headers say beside the usual.
        fallback_from: the model that was asked for, where another answers.
    """

    def __init__(self, desk: Desk, principal: Principal = OPEN, headers: Mapping[str, str] | None = None) -> None:
        self.desk, self.principal = desk, principal
        self.id = f"use-{uuid.uuid4().hex}"
        self.route = ""
        self.headers: dict[str, str] = {}
        self.fallback_from: str | None = None
        self.deadline = _deadline(headers or {})
        self.priority = principal.limits.priority
        self.user_adapter: str | None = None
        self._admission: Admission | None = None
        self._gate: Gate | None = None
        self._place: Place | None = None
        self._opening: Future[None] | None = None
        self._unit: Unit = "tokens"
        self._settled = False
        self._work: Callable[[], Awaitable[None]] | None = None

    @property
    def seconds_left(self) -> float | None:
        """Until its deadline; None where it has none."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    @property
    def share(self) -> str:
        """Whose share of the server this counts against: the key's, or that of the user behind it."""
        return f"{self.principal.key or ''}/{self.principal.user or ''}"

    def name_user(self, headers: Mapping[str, str]) -> None:
        """Take the user that the request names for its user, where its key allows that; raises `Fault` 400 for none.

        Whatever the method: files, batches and stores are the user's own.
        """
        if self.desk.keys and self.principal.limits.forwarded_users:
            self.principal = self.principal.behalf_of(_named(headers))

    async def enter(self, route: str) -> None:
        """Count the request against the limits of its key and user; raises `Fault` 429."""
        self.route = route
        if self.principal.key is None or not self.desk.keys:
            return
        limits, key = self.principal.limits, self.principal.key
        holders: list[tuple[Holder, Limits]] = [((key, None), limits)]
        named = self.principal.user
        if named is not None:
            asked = users.needs_look_up(key, named)
            known = await run_in_threadpool(users.get, key, named) if asked else users.get(key, named)
            self.user_adapter = known.adapter if known else None
            own = known.limits if known and known.limits.stored() else limits.each_user
            if own is not None:
                holders.append(((key, named), own))
                self.priority = own.priority or self.priority
        quotas = self.desk.quotas
        try:
            # A thread costs a quarter of a millisecond: only where the database is asked.
            asked = quotas.needs_look_up(holders)
            self._admission = await run_in_threadpool(quotas.enter, holders) if asked else quotas.enter(holders)
        except Exceeded as error:
            raise exceeded(error) from None
        self.headers |= self._admission.headers()

    def require(self, scope: str, target: Target | None = None) -> None:
        """Raise `Fault` 403 where the key does not cover `scope` on what was asked for."""
        names: list[str | None] = [None]
        if target is not None:
            base = target.base.name
            names = [f"{base}:{use.name}" for use in target.uses] or [base]
        for name in names:
            alone = name.partition(":")[2] if name and target is not None and target.uses else None
            if not (self.principal.allows(scope, name) or (alone and self.principal.allows(scope, alone))):
                about = f" on {name}" if name else ""
                raise Fault(
                    403, f"This key does not cover {scope}{about}.", type="permission_error", code="insufficient_scope"
                )

    def sees(self, name: str, base: str | None = None) -> bool:
        """Whether the key covers a model, or an adapter on its base: a customer's key shows no other customers."""
        names = [name] if base is None else [name, f"{base}:{name}"]
        return any(self.principal.allows("serve:read", each) for each in names)

    @contextmanager
    def discreet(self) -> Iterator[None]:
        """What is not found names what is near it, but not to a key that covers some of it alone."""
        try:
            yield
        except NotFound as error:
            if self.principal.allows("serve:read"):
                raise
            raise NotFound(error.message, where=error.where) from None

    def require_resource(self, scope: str, resource: str) -> None:
        """Raise `Fault` 403 where the key does not cover `scope` on what has this name."""
        if not self.principal.allows(scope, resource):
            words = f"This key does not cover {scope} on {resource[:200]}."
            raise Fault(403, words, type="permission_error", code="insufficient_scope")

    def require_name(self, scope: str, adapter: str, bases: Sequence[str]) -> None:
        """Raise `Fault` 403 where the key does not cover `scope` on an adapter that is not served yet on any base."""
        names = [adapter, *(f"{base}:{adapter}" for base in bases)]
        if not any(self.principal.allows(scope, name) for name in names):
            words = f"This key does not cover {scope} on {adapter}."
            raise Fault(403, words, type="permission_error", code="insufficient_scope")

    def admit(self, target: Target, *, answers: int, tokens: int) -> None:
        """Set tokens aside and take a place in the queue; raises `Fault`, or `Overloaded` for the caller to act on.

        Args:
            tokens: most tokens that prompts and answers can need together.
        """
        self.queue(self.desk.gate(target.base), answers=answers, tokens=tokens)
        try:
            self.reserve(tokens, [adapter.identity for adapter in target.adapters])
        except Fault:
            self.leave_gate()
            raise
        if self.desk.ledger is not None:
            self.headers["x-usage-id"] = self.id

    def queue(self, gate: Gate, *, answers: int = 1, tokens: int = 0) -> None:
        """Take a place in a queue; raises `Overloaded`."""
        place = gate.enter(self.share, answers=answers, tokens=tokens, priority=self.priority, deadline=self.deadline)
        self._gate, self._place = gate, place
        self.headers["x-queue-place"] = str(place.position)
        self.headers["x-queue-estimate"] = f"{place.estimate:.2f}"

    def reserve(self, tokens: int, adapters: Sequence[str] = ()) -> None:
        """Set aside the most tokens that it can use; raises `Fault` 429 beyond the limits of its key and user."""
        if self._admission is not None:
            try:
                self._admission.reserve(tokens, adapters)
            except Exceeded as error:
                raise exceeded(error) from None
            self.headers |= self._admission.headers()

    def check_another_adapter(self) -> None:
        """Raise `Fault` 429 where the key may ask for no adapter that it did not ask for today."""
        if self._admission is not None:
            try:
                self._admission.check_another_adapter()
            except Exceeded as error:
                raise exceeded(error) from None

    async def turn(self, at_most: float | None = None) -> bool:
        """Wait for the turn; False when it has not come after `at_most` seconds. Raises `Fault` at the deadline."""
        assert self._gate is not None and self._place is not None
        if self._place.is_in:
            return True
        try:
            return await self._gate.wait(self._place, deadline=self.deadline, at_most=at_most)
        except TooLate:
            raise too_late() from None

    def place(self) -> tuple[int, float]:
        """(place now, seconds it may take)."""
        assert self._gate is not None and self._place is not None
        now = self._gate.position(self._place)
        return now, self._gate.estimate(now)

    def open(
        self, model: str, adapter: str | None = None, unit: Unit = "tokens", adapters: Sequence[ServedAdapter] = ()
    ) -> None:
        """Write into the ledger that an answer begins; `settle` sees to it that it is written."""
        self._unit = unit
        if self.desk.ledger is None or self._opening is not None:
            return
        from allmend.access.ledger import Opening

        who, names = self.principal, tuple(each.name for each in adapters)
        self.headers["x-usage-id"] = self.id
        self._opening = self.desk.ledger.open(
            Opening(self.id, who.key, who.account, who.user, self.route, model, adapter, unit, names)
        )

    async def settle(self, *, prompt: int, cached: int, completion: int, state: str = "settled") -> None:
        """Write what was used, before the answer's end is sent; raises `Fault` 503 where that cannot be."""
        if self._settled:
            return
        self._settled = True
        if self._admission is not None:
            self._admission.settle(prompt + completion if self._unit == "tokens" else 0)
        if self.desk.ledger is not None and self._opening is not None:
            from allmend.access.ledger import Settled

            await _written(self.desk.ledger.settle(self.id, Settled(prompt, cached, completion, state)))
            await _written(self._opening)

    def works(self, ending: Callable[[], Awaitable[None]]) -> None:
        """What brings the work to its end before the visit ends."""
        self._work = ending

    def leave_gate(self) -> None:
        """Let the next one in: nothing of this request is computed any more."""
        if self._gate is not None and self._place is not None:
            self._gate.leave(self._place)

    async def close(self) -> None:
        """The request is over, answered or not."""
        try:
            if self._work is not None:
                await self._work()
        finally:
            self.leave_gate()
            try:
                if self._opening is not None and not self._settled:
                    await self.settle(prompt=0, cached=0, completion=0, state="failed")
            finally:
                # Also where the ledger cannot be written: the key's place among its requests at once is free again.
                if self._admission is not None:
                    self._admission.leave()


def _named(headers: Mapping[str, str]) -> str | None:
    """The user that a request names. One that cannot be told apart must not pass as nobody: that has no limits."""
    named = users.named(headers)
    if named is None and users.given(headers):
        words = "The user that the request names has to be printable text of at most 200 characters."
        raise Fault(400, words, code="invalid_user")
    return named


def of(request: Request) -> Visit:
    """The visit of a request; one without rules where the application is used without its middleware."""
    found: Any = request.scope.get("allmend.visit")
    return found if isinstance(found, Visit) else Visit(Desk())


def note(request: Request, action: str, target: str, **details: Any) -> None:
    """Write into the audit log who did something, where keys say who it was; for routes in threads."""
    visit = of(request)
    if visit.desk.keys:
        from allmend.access import audit

        principal = visit.principal
        audit.record(principal.account, action, target, key=principal.key, **details)


def exceeded(error: Exceeded) -> Fault:
    """A limit that was reached, as OpenAI says it."""
    kind = error.what if error.what in ("requests", "tokens") else "requests"
    headers = error.headers | retry_headers(error.retry_after)
    return Fault(429, error.words, type=kind, code="rate_limit_exceeded", headers=headers)


def overloaded(error: Overloaded) -> Fault:
    """A queue that is too long."""
    headers = {**retry_headers(error.retry_after), "x-queue-place": str(error.place)}
    return Fault(429, error.words, type="server_busy", code="overloaded", headers=headers)


def too_late() -> Fault:
    """A deadline that the client set has passed."""
    words = "The deadline that the request named has passed."
    return Fault(408, words, type="timeout", code="deadline_exceeded", headers={"x-should-retry": "false"})


def retry_headers(seconds: float | None) -> dict[str, str]:
    """When to come again, in whole seconds and, for clients that know it, in thousandths."""
    if seconds is None:
        return {"x-should-retry": "false"}
    whole = max(int(-(-seconds // 1)), 1)
    return {"retry-after": str(whole), "retry-after-ms": str(max(int(seconds * 1000), 1))}


async def _written(done: Any) -> None:
    try:
        if done.done():
            done.result()
        else:
            # Also where the client hangs up meanwhile, what was used is written.
            await asyncio.shield(asyncio.wrap_future(done))
    except AllmendError as error:
        words = f"The answer could not be written into the ledger: {error.message}"
        raise Fault(503, words, type="server_error", code="ledger_unavailable", headers={"retry-after": "1"}) from None


def _deadline(headers: Mapping[str, str]) -> float | None:
    try:
        seconds = float(headers.get("x-request-deadline", ""))
    except ValueError:
        return None
    return time.monotonic() + min(seconds, _LONGEST_DEADLINE) if seconds > 0 else None
