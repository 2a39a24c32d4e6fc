"""Answers of one request, from the queue to their end: pieces come on the engine's thread, and are read on the loop."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from allmend.engines.text import Completion, Piece, Restarting, TextRequest, Ticket, Usage, gather
from allmend.serving.faults import Fault, of_error
from allmend.serving.registry import Registry
from allmend.serving.responses import PromptDetails, UsageCount
from allmend.serving.targets import Target
from allmend.serving.visit import Visit, too_late

T = TypeVar("T")
_LOOK_FOR_CLIENT = 0.25
"""Seconds between looks whether a client that waits for a whole answer is still there."""
_TELL_PLACE = 1.0
"""Seconds between two comments that tell the place in the queue."""
_COME_AGAIN = 5.0
"""Seconds after which whoever waited for an engine that does not start is asked to come again."""
_HEAR_OUT = 60.0
"""Seconds that an engine is given to end what was cancelled."""


class ClientGone(Exception):
    """Whoever asked has hung up; there is nobody to answer."""


class Prepared(Protocol):
    """A request that has been understood."""

    @property
    def target(self) -> Target:
        """What answers."""

    @property
    def requests(self) -> list[TextRequest]:
        """What the engine is asked."""

    @property
    def prompts(self) -> int:
        """Number of different prompts among them."""


class _Postbox:
    """Pieces from the engine's thread to the event loop, which is woken once for all that came meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._wake = weakref.WeakMethod(loop.call_soon_threadsafe)
        self._letters: deque[tuple[Callable[[int, Piece], None], int, Piece]] = deque()
        self._woken = False

    @classmethod
    def here(cls) -> _Postbox:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        found = _postboxes.get(loop)
        if found is None:
            found = _postboxes[loop] = cls(loop)
        return found

    def post(self, arrive: Callable[[int, Piece], None], index: int, piece: Piece) -> None:
        """From any thread; raises `RuntimeError` where the loop has ended."""
        self._letters.append((arrive, index, piece))
        if not self._woken:
            self._woken = True
            wake = self._wake()
            if wake is None:
                raise RuntimeError("the event loop is gone")
            wake(self._deliver)

    def _deliver(self) -> None:
        # First: what comes from here on wakes the loop again, and is at worst delivered before that.
        self._woken = False
        for _ in range(len(self._letters)):
            arrive, index, piece = self._letters.popleft()
            arrive(index, piece)


_postboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Postbox] = weakref.WeakKeyDictionary()


class Running:
    """Answers of one request, from the queue to their end, with their pieces on this event loop."""

    def __init__(self, visit: Visit, registry: Registry, prepared: Prepared) -> None:
        self._visit, self._registry, self._target = visit, registry, prepared.target
        self._requests, self._prompts = prepared.requests, prepared.prompts
        self._began, self._told = time.perf_counter(), False
        self._postbox = _Postbox.here()
        self._pieces: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()
        self._left = self._computing = 0
        self._usages: dict[int, Usage] = {}
        self._tickets: list[Any] = []
        self._failed = self._settled = self._ended = self._expired = False
        self._alarm: asyncio.TimerHandle | None = None
        visit.works(self.end)

    @property
    def fallback_from(self) -> str | None:
        """The model that was asked for, where another answers."""
        return self._visit.fallback_from

    @property
    def has_more(self) -> bool:
        """Whether the next piece is here, or none comes any more: it need not be waited for."""
        return bool(self._tickets) and (not self._left or not self._pieces.empty())

    async def waiting(self) -> AsyncIterator[tuple[int, float]]:
        """(place, estimate in seconds) while the turn has not come, at most once a second; then it is started."""
        while not await self._visit.turn(_TELL_PLACE):
            yield self._visit.place()
        await self.start()

    async def start(self) -> None:
        """Set it going, with the adapters it uses in memory, when its turn has come."""
        if self._tickets:
            return
        await self._visit.turn()
        self._visit.open(self._target.base.name, self._target.label, adapters=self._target.adapters)
        if self._target.adapters:
            holding = run_in_threadpool(self._registry.hold, self._target)
            await _seen_through(holding, lambda _: self._registry.release(self._target))
        self._left = self._computing = len(self._requests)
        if (left := self._visit.seconds_left) is not None:
            self._alarm = asyncio.get_running_loop().call_later(max(left, 0.0), self._expire)
        try:
            for index, request in enumerate(self._requests):
                self._tickets.append(await self._submit(request, self._sink(index)))
            for ticket in self._tickets:
                if (accepted := getattr(ticket, "accepted", None)) is not None:
                    await asyncio.wrap_future(accepted)
        except BaseException:
            self._left = self._computing = len(self._tickets)
            self.cancel()
            raise
        finally:
            # What runs keeps its adapters itself.
            self._registry.release(self._target)

    async def _submit(self, request: TextRequest, sink: Any) -> Ticket:
        engine = self._target.base.engine
        if request.sampling.grammar is None:
            return engine.submit(request, sink)
        # A grammar is compiled first, which can take seconds.
        submitting = run_in_threadpool(engine.submit, request, sink)
        return await _seen_through(submitting, lambda ticket: ticket.cancel())

    def _sink(self, index: int) -> Any:
        def sink(piece: Piece) -> None:
            try:
                self._postbox.post(self._arrive, index, piece)
            except RuntimeError:
                self.cancel()  # The event loop is closed: nobody listens any more.

        return sink

    def _arrive(self, index: int, piece: Piece) -> None:
        self._pieces.put_nowait((index, piece))
        if piece.finish is not None:
            self._computing -= 1
            if not self._computing:
                # Also where nobody reads the answer: the next one need not wait for that.
                self._visit.leave_gate(learn=piece.finish != "lost")

    def cancel(self) -> None:
        """End what still runs."""
        for ticket in self._tickets:
            ticket.cancel()

    def _expire(self) -> None:
        """Nobody needs the answer any more: stop computing it."""
        self._expired = self._left > 0
        self.cancel()

    def _count(self, index: int, piece: Piece) -> None:
        if piece.usage is not None:
            self._usages[index] = piece.usage
            self._left -= 1
        meter = self._registry.meter
        if meter is None:
            return
        if not self._told and piece.text:
            self._told = True
            meter.first.observe(time.perf_counter() - self._began)
        if piece.usage is not None:
            meter.used(piece.usage)

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """(index of the request, piece) as they come; leaving early cancels the rest.

        The last piece comes after what was used is written down.
        """
        await self.start()
        try:
            while self._left:
                index, piece = await self._pieces.get()
                self._count(index, piece)
                if piece.finish is not None:
                    self._raise_failure(piece)
                    if not self._left:
                        await self._settle("settled")
                yield index, piece
        finally:
            self.cancel()

    def _raise_failure(self, piece: Piece) -> None:
        if self._expired and piece.finish == "cancelled":
            raise too_late()  # What was computed until then is written down.
        self._failed = piece.finish in ("error", "lost", "absent", "cancelled")
        if self._failed:
            raise _failure(piece)

    async def _settle(self, state: str) -> None:
        if self._settled:
            return
        self._settled = True
        total = count_usage([self._usages[index] for index in sorted(self._usages)], self._prompts)
        await self._visit.settle(
            prompt=total.prompt_tokens,
            cached=total.prompt_tokens_details.cached_tokens,
            completion=total.completion_tokens,
            state=state,
        )

    async def end(self) -> None:
        """Cancel what still runs, hear it to its end, and write down what was used."""
        if self._ended:
            return
        self._ended = True
        if self._alarm is not None:
            self._alarm.cancel()
        self.cancel()
        try:
            while self._left:
                async with asyncio.timeout(_HEAR_OUT):
                    index, piece = await self._pieces.get()
                if index < len(self._tickets):  # Not one that was given up before the engine had taken it.
                    self._count(index, piece)
        except TimeoutError:
            pass  # An engine that does not answer; what it told so far is counted.
        finally:
            self._registry.done(self._target.base)
        if self._tickets and not self._failed:
            await self._settle("cancelled")


async def whole(request: Request, running: Running, count: int) -> list[Completion]:
    """All answers, in order; raises `ClientGone` as soon as the client hangs up."""

    async def collect() -> list[tuple[int, Piece]]:
        return [item async for item in running.pieces()]

    collecting = asyncio.ensure_future(collect())
    try:
        while not (await asyncio.wait({collecting}, timeout=_LOOK_FOR_CLIENT))[0]:
            if await request.is_disconnected():
                raise ClientGone
        return gather(count, iter(collecting.result()))
    finally:
        collecting.cancel()
        running.cancel()


async def _seen_through(work: Awaitable[T], undo: Callable[[T], None]) -> T:
    """What work on a thread gives. The thread goes on where who waits is cancelled: then its end is undone."""
    doing = asyncio.ensure_future(work)

    def undone(done: asyncio.Future[T]) -> None:
        if not done.cancelled() and done.exception() is None:
            undo(done.result())

    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        doing.add_done_callback(undone)
        raise


def _failure(piece: Piece) -> Fault:
    if piece.finish == "lost":
        headers = {"retry-after": "1", "retry-after-ms": "500", "x-should-retry": "true"}
        words = "The engine failed and starts again; ask once more."
        return Fault(503, words, type="server_error", code="engine_restarted", headers=headers)
    if piece.finish == "absent":
        return of_error(Restarting("the engine failed, and does not start at once", _COME_AGAIN))
    if piece.finish == "cancelled":
        return Fault(503, "The server is shutting down.", type="server_error", code="shutting_down")
    return Fault(500, piece.error or "The model failed.", type="server_error", code="engine_failed")


def count_usage(usages: Sequence[Usage], prompts: int | None = None) -> UsageCount:
    """Usage of answers together; a prompt with several answers is counted once.

    Args:
        prompts: number of different prompts, whose answers lie side by side; by default one.
    """
    each = len(usages) // (prompts or 1) or 1
    prompt = sum(usage.prompt for usage in usages[::each])
    completion = sum(usage.completion for usage in usages)
    cached = sum(usage.cached for usage in usages[::each])
    return UsageCount(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptDetails(cached_tokens=cached),
    )
