"""What works through batches: a task beside the server's own, that stands back whenever somebody waits."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

from allmend.serving import inside
from allmend.serving.batches import Batch, BatchErrors, Batches, Counts, Invalid, Line
from allmend.serving.faults import Fault
from allmend.serving.registry import Registry

_AT_ONCE = 8
"""Requests of batches that run beside each other while nobody else asks anything."""
_POLL = 0.05
_LOOK = 1.0
"""Seconds between looks for new batches, where nothing says that there is one."""
_FEWER_COUNTS = 16
"""Answers after which the counts are written down."""
_PAUSE = (429, 503)
"""Answers that mean later, not no."""


class Runner:
    """Works through the open batches of `batches`, oldest first.

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
        self._running = 0
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is a new batch, or one was cancelled."""
        self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while not self._closing():
            self._wake.clear()
            for batch in await run_in_threadpool(self._batches.open):
                await self._batch(batch)
                if self._closing():
                    return
            try:
                await asyncio.wait_for(self._wake.wait(), _LOOK)
            except TimeoutError:
                pass

    def _closing(self) -> bool:
        return self._registry.closing

    async def _batch(self, batch: Batch) -> None:
        batches = self._batches
        try:
            lines = await run_in_threadpool(batches.lines, batch)
        except Invalid as invalid:
            errors = BatchErrors(data=invalid.problems)
            await run_in_threadpool(
                lambda: batches.update(batch.id, status="failed", failed_at=int(time.time()), errors=errors)
            )
            return
        except Exception as error:  # the file was deleted, or cannot be read
            problem = Invalid([_problem(error)])
            errors = BatchErrors(data=problem.problems)
            await run_in_threadpool(
                lambda: batches.update(batch.id, status="failed", failed_at=int(time.time()), errors=errors)
            )
            return
        done, good, bad = await run_in_threadpool(batches.answered, batch)
        counts = Counts(total=len(lines), completed=good, failed=bad)
        began = batch.in_progress_at or int(time.time())
        await run_in_threadpool(
            lambda: batches.update(batch.id, status="in_progress", in_progress_at=began, request_counts=counts)
        )
        whole = await self._lines(batch, [line for line in lines if line.custom_id not in done], counts)
        if whole is None:
            return
        await run_in_threadpool(
            lambda: batches.update(batch.id, status="finalizing", finalizing_at=int(time.time()), request_counts=counts)
        )
        now = await run_in_threadpool(batches.get, batch.id)
        await run_in_threadpool(batches.finish, now, "completed" if whole else _why_not(now))

    async def _lines(self, batch: Batch, lines: list[Line], counts: Counts) -> bool | None:
        """Whether all were answered; None where the server stops before."""
        todo = list(reversed(lines))
        tasks: set[asyncio.Task[bool | None]] = set()
        told = 0
        try:
            while todo or tasks:
                if todo and not await self._goes_on(batch):
                    todo.clear()
                    await asyncio.gather(*tasks)
                    self._count(tasks, counts)
                    return None if self._registry.closing else False
                while todo and self._room():
                    tasks.add(asyncio.create_task(self._one(batch, todo.pop())))
                    self._running += 1
                if not tasks:
                    await asyncio.sleep(_POLL)
                    continue
                finished, tasks = await asyncio.wait(tasks, timeout=_POLL, return_when=asyncio.FIRST_COMPLETED)
                self._count(finished, counts)
                if self._registry.closing:
                    return None
                if counts.completed + counts.failed - told >= _FEWER_COUNTS:
                    told = counts.completed + counts.failed
                    await run_in_threadpool(lambda: self._batches.update(batch.id, request_counts=counts))
        finally:
            for task in tasks:
                task.cancel()
        return True

    def _count(self, finished: set[asyncio.Task[bool | None]], counts: Counts) -> None:
        for task in finished:
            self._running -= 1
            good = task.result()
            counts.completed += good is True
            counts.failed += good is False

    async def _goes_on(self, batch: Batch) -> bool:
        now = await run_in_threadpool(self._batches.get, batch.id)
        return now.status != "cancelling" and time.time() < (now.expires_at or 1e18) and not self._registry.closing

    def _room(self) -> bool:
        """Whether another request may begin: not while somebody waits, and only one beside others that run."""
        others = -self._running
        for base in self._registry.bases():
            running, waiting = base.engine.load()
            others += running
            if waiting:
                return False
        return self._running < (_AT_ONCE if others <= 0 else 1)

    async def _one(self, batch: Batch, line: Line) -> bool | None:
        key = await run_in_threadpool(self._batches.key, batch.id)
        principal = None
        if key is not None and (principal := await run_in_threadpool(self._principal, key)) is None:
            said: Any = Fault(401, "The key of this batch is no longer valid.", code="invalid_api_key").body()
            return await run_in_threadpool(self._batches.note, batch, line.custom_id, 401, "", said)
        if principal is not None:
            # The user behind the key, whose limits hold here too.
            owner = await run_in_threadpool(self._batches.owner, batch.id)
            principal = principal.behalf_of(owner.partition("/")[2] or None)
        body = json.dumps(line.body).encode()
        wait = 0.25
        while True:
            answered = await inside.post(self._app, line.url, body, principal)
            if self._registry.closing:
                return None  # It is asked again after the restart.
            if answered.status not in _PAUSE or answered.headers.get("x-should-retry") == "false":
                break
            await asyncio.sleep(wait)
            wait = min(2 * wait, 10)
            if not await self._goes_on(batch):
                return None
        try:
            said = json.loads(answered.body)
        except ValueError:
            said = answered.body.decode("utf-8", "replace")
        request_id = answered.headers.get("x-request-id", "")
        return await run_in_threadpool(self._batches.note, batch, line.custom_id, answered.status, request_id, said)


def _why_not(batch: Batch) -> Any:
    return "cancelled" if batch.status == "cancelling" else "expired"


def _problem(error: Exception) -> Any:
    from allmend.serving.batches import BatchError

    return BatchError(code="unreadable_file", message=str(error)[:300])
