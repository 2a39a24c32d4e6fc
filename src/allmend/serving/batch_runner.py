"""What works through batches: a task beside the server's own, that stands back whenever somebody waits."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from allmend.errors import AllmendError
from allmend.serving import inside
from allmend.serving.batch_api import Batch, BatchError, BatchErrors, Counts, Status
from allmend.serving.batch_turns import POLL, Turns
from allmend.serving.batches import Batches, Invalid, Place
from allmend.serving.faults import Fault, Missing, bug
from allmend.serving.registry import Registry
from allmend.serving.tries import Tries, Try

_log = logging.getLogger(__name__)
T = TypeVar("T")
_BATCHES = 32
"""Batches that are worked through beside each other, of different owners: none waits for another's limits."""
_LOOK = 1.0
"""Seconds between looks for new batches, where nothing says that there is one."""
_AGAIN, _AGAIN_AT_LAST = 5.0, 300.0
"""Seconds after which a batch is tried again that something outside of it stopped, like a full disk; twice as long each
further time, and that at most."""
_MOST_LOOKS = 3
"""Times that a batch whose file cannot be read is tried, once it is over."""
_FEWER_COUNTS = 16
"""Answers after which the counts are written down."""
_PAUSE = (429, 503)
"""Answers that mean later, unless they say that waiting does not help."""
_LONGEST = 60.0
"""Seconds between two attempts at most."""


@dataclass
class _Work:
    """A batch that is being worked through."""

    batch: Batch
    key: str | None
    """Public name of the key that made it; None for the operator's."""
    user: str | None
    """Behind that key."""
    counts: Counts
    todo: list[Place]
    """The next one last."""
    tries: Tries
    tasks: set[asyncio.Task[bool | None]] = field(default_factory=set)
    stopped: bool = False
    """Begin no more."""
    left: list[str] = field(default_factory=list)
    """Requests that were given up."""


class Runner:
    """Works through the open batches of `batches`: the oldest of every owner, those that came first before others.

    Args:
        app: the application, which answers their requests.
        principal: who a batch's key stands for today, or None where it may do nothing any more; a batch without a
            key is the operator's.
    """

    def __init__(
        self,
        app: Any,
        registry: Registry,
        batches: Batches,
        principal: Callable[[str], Any] = lambda key: None,
    ) -> None:
        self._app, self._registry, self._batches, self._principal = app, registry, batches, principal
        self._turns = Turns(registry)
        self._active: dict[str, asyncio.Task[None]] = {}
        """By owner; those that have only to be ended, by their own name."""
        self._begun: set[str] = set()
        """Their names."""
        self._stopped: Counter[str] = Counter()
        """How often each was stopped in a row."""
        self._later: dict[str, float] = {}
        """When those that were stopped are tried again; their owner's other ones go on until then."""
        self._wake = asyncio.Event()
        self._blind = False

    def wake(self) -> None:
        """There is a new batch, or one was cancelled."""
        self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while not self._closing():
                self._wake.clear()
                for owner, batch in await self._open():
                    # What was cancelled while it waited for its owner's other ones waits no longer.
                    over = _is_over(batch)
                    name = batch.id if over else owner
                    if batch.id in self._begun or name in self._active:
                        continue
                    if time.monotonic() < self._later.get(batch.id, 0.0):
                        continue
                    if over or len(self._active) < _BATCHES:
                        self._begun.add(batch.id)
                        self._active[name] = asyncio.create_task(self._whole(name, batch))
                try:
                    async with asyncio.timeout(_LOOK):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            for task in self._active.values():
                task.cancel()
            await asyncio.gather(*self._active.values(), return_exceptions=True)
            self._batches.claims.leave()

    async def _open(self) -> list[tuple[str, Batch]]:
        try:
            found = await run_in_threadpool(self._batches.open)
            self._blind = False
            return found
        except Exception as error:  # looked for again in a moment, and told once
            if not self._blind:
                _log.error("batches cannot be listed; they are when that works again", exc_info=error)
            self._blind = True
            return []

    def _closing(self) -> bool:
        return self._registry.closing

    async def _whole(self, name: str, batch: Batch) -> None:
        try:
            # It may have come to its end since it was found, or another server was quicker.
            if (taken := await _to_its_end(self._batches.take, batch.id)) is not None:
                await self._batch(taken)
            del self._stopped[batch.id]
            self._later.pop(batch.id, None)
        except Exception as error:  # a full disk must not end the work on every other batch
            pause = min(_AGAIN * 2 ** min(self._stopped[batch.id], 10), _AGAIN_AT_LAST)
            self._stopped[batch.id] += 1
            self._later[batch.id] = time.monotonic() + pause
            _log.error("batch %s stopped, and is tried again in %.0f s", batch.id, pause, exc_info=error)
        finally:
            del self._active[name]
            self._begun.discard(batch.id)
            self.wake()

    async def _batch(self, batch: Batch) -> None:
        batches = self._batches
        try:
            lines = await _to_its_end(batches.lines, batch)
        except Invalid as invalid:
            await _to_its_end(batches.fail, batch, invalid.problems)
            return
        except Missing as error:  # the file was deleted
            problem = BatchError(code="unreadable_file", message=error.message)
            await _to_its_end(batches.fail, batch, [problem])
            return
        except OSError:
            if not _is_over(batch) or self._stopped[batch.id] < _MOST_LOOKS:
                raise
            words = "The file cannot be read, so that what was not asked cannot be named."
            errors = BatchErrors(data=[BatchError(code="unreadable_file", message=words)])
            now = await _to_its_end(lambda: batches.update(batch.id, errors=errors))
            await _to_its_end(batches.finish, now, _end(now))
            return
        done, good, bad = await _to_its_end(batches.answered, batch)
        counts = Counts(total=len(lines), completed=good, failed=bad)
        began = batch.in_progress_at or int(time.time())
        await _to_its_end(
            lambda: batches.update(batch.id, status="in_progress", in_progress_at=began, request_counts=counts)
        )
        todo = [line for line in reversed(lines) if line.custom_id not in done]
        tries = await run_in_threadpool(batches.tries, batch)
        # Those that may be why the engine or the server ended come last, so that what is sound is answered before.
        todo.sort(key=lambda line: -tries.of(line.custom_id).ends)
        work = _Work(batch, *await _to_its_end(batches.maker, batch.id), counts, todo, tries)
        if not await self._lines(work):
            return
        await _to_its_end(
            lambda: batches.update(batch.id, status="finalizing", finalizing_at=int(time.time()), request_counts=counts)
        )
        now = await _to_its_end(batches.get, batch.id)
        status: Status = "completed"
        if work.stopped:
            status = _end(now)
        if status == "expired":
            words = "This request was not asked before the batch expired."
            await _to_its_end(batches.give_up, batch, work.left, "batch_expired", words)
        await _to_its_end(batches.finish, now, status)

    async def _lines(self, work: _Work) -> bool:
        """Whether it came to an end: all answered, or stopped; not where the server stops before."""
        told = 0
        try:
            while work.todo or work.tasks:
                if not work.stopped and not await self._goes_on(work.batch):
                    work.stopped = True
                    work.left += [line.custom_id for line in reversed(work.todo)]
                    work.todo.clear()
                if self._closing():
                    return False
                while work.todo and len(work.tasks) < self._turns.share(len(self._active)) and self._turns.is_free():
                    work.tasks.add(asyncio.create_task(self._one(work, work.todo.pop())))
                if not work.tasks:
                    await asyncio.sleep(POLL)
                    continue
                finished, _ = await asyncio.wait(work.tasks, timeout=POLL, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    good = task.result()
                    work.tasks.discard(task)
                    work.counts.completed += good is True
                    work.counts.failed += good is False
                if work.counts.completed + work.counts.failed - told >= _FEWER_COUNTS:
                    told = work.counts.completed + work.counts.failed
                    await _to_its_end(lambda: self._batches.update(work.batch.id, request_counts=work.counts))
            return not self._closing()
        finally:
            for task in work.tasks:
                task.cancel()
            await asyncio.gather(*work.tasks, return_exceptions=True)

    async def _goes_on(self, batch: Batch) -> bool:
        return not _is_over(await _to_its_end(self._batches.get, batch.id))

    async def _one(self, work: _Work, line: Place) -> bool | None:
        """Whether a request was answered well; None where it was not answered for good.

        Raises:
            OSError, Missing: the batch's files cannot be read now, which is not this request's fault.
        """
        try:
            answered = await self._answered(work, line)
        except (OSError, Missing):
            raise
        except Exception as error:  # this request's, whatever it is
            _log.error("a request of batch %s failed", work.batch.id, exc_info=error)
            answered = _said(bug(error))
        if answered is None:
            if not self._closing():
                work.left.append(line.custom_id)
            return None
        try:
            said = json.loads(answered.body)
        except ValueError:
            said = answered.body.decode("utf-8", "replace")
        request_id = answered.headers.get("x-request-id", "")
        return await _to_its_end(self._batches.note, work.batch, line.custom_id, answered.status, request_id, said)

    async def _answered(self, work: _Work, place: Place) -> inside.Answered | None:
        """The answer, asked for until there is one; None where the batch or the server stops before."""
        line = await _to_its_end(self._batches.line, work.batch, place)
        body = json.dumps(line.body).encode()
        wait = 0.25
        while True:
            tried = work.tries.of(place.custom_id)
            if tried.is_given_up:
                return _given_up(tried)
            alone = tried.ends > 0
            if not await self._turns.wait(alone, lambda: work.stopped or self._closing()):
                return None
            answered = await self._asked_for(work, place.custom_id, alone, line.url, body)
            if answered is None:
                continue  # Others came in while the key was looked up.
            if self._closing() and answered.status != 200:
                return None  # It is asked again after the restart.
            if answered.status not in _PAUSE or answered.headers.get("x-should-retry") == "false":
                return answered
            until = time.monotonic() + min(max(wait, _named(answered)), _LONGEST)
            wait = 2 * wait
            while time.monotonic() < until:
                if work.stopped or self._closing():
                    return None
                await asyncio.sleep(POLL)

    async def _asked_for(
        self, work: _Work, custom_id: str, alone: bool, url: str, body: bytes
    ) -> inside.Answered | None:
        """The application's answer to whoever made the batch, once; None where it is not its turn any more."""
        if work.key is None:
            return await self._asked(work, custom_id, alone, url, body, None)
        try:
            principal = await _to_its_end(self._principal, work.key)
        except (AllmendError, OSError) as error:  # a locked database, say: it says nothing about the key
            _log.warning("the key of batch %s cannot be looked up; it is tried again: %s", work.batch.id, error)
            return _said(Fault(503, "The key of this batch cannot be looked up.", type="server_error"))
        if principal is None:
            return _said(Fault(401, "The key of this batch is no longer valid.", code="invalid_api_key"))
        if not self._turns.is_free(alone):
            return None
        # The user behind the key, whose limits hold here too.
        return await self._asked(work, custom_id, alone, url, body, principal.behalf_of(work.user))

    async def _asked(
        self, work: _Work, custom_id: str, alone: bool, url: str, body: bytes, principal: Any
    ) -> inside.Answered:
        """The application's answer, once. Where engine or server end meanwhile that is known afterwards."""
        before = self._registry.taken
        with self._turns.taken(alone) as beside:
            crashed = False
            try:
                # Short, and before anything else is begun: another thread would let others in meanwhile.
                work.tries.begin(custom_id, alone=not beside)
                watching = asyncio.create_task(self._watch(work.tries, custom_id, before))
                try:
                    answered = await inside.post(self._app, url, body, principal)
                finally:
                    watching.cancel()
                if self._registry.taken > before + 1:
                    work.tries.joined(custom_id)
                crashed = answered.status == 503 and b'"engine_restarted"' in answered.body
            finally:
                if not crashed:
                    work.tries.ended(custom_id)
        return answered

    async def _watch(self, tries: Tries, custom_id: str, before: int) -> None:
        """Note where others come to a request that was begun alone: now, since the server may end with them."""
        while self._registry.taken <= before + 1:
            await asyncio.sleep(POLL)
        tries.joined(custom_id)


def _given_up(tried: Try) -> inside.Answered:
    words = f"The engine or the server ended each of the {tried.ends} times that it had this request."
    return _said(Fault(500, words, type="server_error", code="engine_crashes"))


def _said(fault: Fault) -> inside.Answered:
    return inside.Answered(fault.status, {}, json.dumps(fault.body()).encode())


async def _to_its_end(work: Callable[..., T], *given: Any) -> T:
    """What a thread does with a batch, also where who waits for it is cancelled: another server, which may take the
    batch on as soon as this one leaves, must not read what is still being written."""
    doing = asyncio.ensure_future(run_in_threadpool(work, *given))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait({doing})
        if not doing.cancelled() and (error := doing.exception()) is not None:
            _log.error("what a batch came to was not written down", exc_info=error)
        raise


def _is_over(batch: Batch) -> bool:
    """Whether nothing of it is to be asked any more."""
    return batch.status == "cancelling" or time.time() >= (batch.expires_at or 1e18)


def _end(batch: Batch) -> Status:
    """How a batch ends of which nothing more is to be asked."""
    return "cancelled" if batch.status == "cancelling" else "expired"


def _named(answered: inside.Answered) -> float:
    """Seconds that an answer asks to wait."""
    try:
        return float(answered.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
