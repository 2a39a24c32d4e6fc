"""Who used how many tokens of what: one row for every answer, in the database.

A row is written when an answer begins, and settled with its tokens before the end of the answer is sent: an answer
that reached its client whole is in the ledger, also when the server is killed in the next instant. What was open when
a server died is marked `lost`, with no tokens: nobody pays for an answer that was not finished.

Rows are written by one thread, as many as there are in one transaction (group commit). Nobody waits for an opening
alone, so it is written a moment later, or with the first answer that is settled: most short answers are one row
written once.
"""

from __future__ import annotations

import fcntl
import queue
import socket
import threading
import time
import uuid
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import bindparam, func, insert, select, update

from allmend import database
from allmend.access import prices
from allmend.access.quotas import Holder
from allmend.database.schema import usage
from allmend.home import file_name, home

_BATCH = 500
_GATHER = 0.05
"""Seconds after which an opening is written, if no answer that is settled took it along before."""
_TOGETHER, _MANY = 0.002, 4
"""Seconds that an answer's end waits for others', where at least so many are open."""
_PRICES_SECONDS = 1.0

Unit = Literal["tokens", "characters", "seconds"]
"""What the numbers of a row count: characters that were said or judged, seconds that were heard."""


@dataclass(frozen=True)
class Opening:
    """An answer that begins."""

    id: str
    key: str | None
    account: str
    user: str | None
    route: str
    model: str
    adapter: str | None
    """As it is written down: `mine`, or `mine*0.5+yours`."""
    unit: Unit = "tokens"
    """What is counted."""
    adapters: tuple[str, ...] = ()
    """Names of the adapters, which their prices go by; that of `adapter` where none are given."""


@dataclass(frozen=True)
class Settled:
    """What an answer used."""

    prompt: int
    cached: int
    completion: int
    state: str = "settled"
    """`settled`; `cancelled` where the client hung up before the end."""


class _Signal(Enum):
    OPENED = 1
    END = 2


@dataclass
class _Job:
    opening: Opening | None
    id: str
    settled: Settled | None
    done: Future[None]
    time: float


class Ledger:
    """The ledger of one server. Close it at the end."""

    def __init__(self) -> None:
        self.server = f"{socket.gethostname()[:40]}/{uuid.uuid4().hex[:12]}"
        self._lock = _hold(self.server)
        self._jobs: queue.SimpleQueue[_Job | _Signal] = queue.SimpleQueue()
        self._openings: deque[_Job] = deque()
        self._models: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._prices: dict[str, prices.Price] = {}
        self._priced = 0.0
        self._closed = False
        self._writer = database.Writer()
        recover()
        self._thread = threading.Thread(target=self._run, name="allmend-ledger", daemon=True)
        self._thread.start()

    def open(self, opening: Opening) -> Future[None]:
        """Write soon that an answer begins; done when it is written."""
        job = _Job(opening, opening.id, None, Future(), time.time())
        self._openings.append(job)
        if len(self._openings) == 1:
            self._jobs.put(_Signal.OPENED)
        return job.done

    def settle(self, identity: str, settled: Settled) -> Future[None]:
        """Write what an answer used; done when it is written. An answer is settled once."""
        job = _Job(None, identity, settled, Future(), time.time())
        self._jobs.put(job)
        return job.done

    def close(self) -> None:
        """Write what is left, and end."""
        if not self._closed:
            self._closed = True
            self._jobs.put(_Signal.END)
            self._thread.join(timeout=60)
            _lock_file(self.server).unlink(missing_ok=True)
            self._lock.close()

    def _run(self) -> None:
        ended = False
        while not ended:
            settled: list[_Job] = []
            until: float | None = None
            while len(settled) < _BATCH and not ended:
                try:
                    item = self._jobs.get(timeout=None if until is None else max(until - time.monotonic(), 0.0))
                except queue.Empty:
                    break
                if item is _Signal.END:
                    ended = True
                elif isinstance(item, _Job):
                    settled.append(item)
                    if len(settled) == 1:
                        # Where many answers are open, others are about to end: they share the transaction.
                        many = len(self._openings) + len(self._models) >= _MANY
                        until = time.monotonic() + (_TOGETHER if many else 0.0)
                elif until is None:
                    until = time.monotonic() + _GATHER
            # Taken after the answers that are settled: the opening of each of them is here, or was written before.
            openings = [self._openings.popleft() for _ in range(len(self._openings))]
            if openings or settled:
                self._write([*openings, *settled])
        self._writer.close()

    def _write(self, jobs: list[_Job]) -> None:
        try:
            self._look_up_prices()
            opened, settled = self._rows(jobs)
            with self._writer.transaction() as connection:
                if opened:
                    connection.execute(insert(usage), opened)
                if settled:
                    # `lost` is what another process thought of a server that it took for dead: a machine of the same
                    # name with a home of its own. What was used is known here.
                    unsettled = (usage.c.state == "open") | (usage.c.state == "lost")
                    same = (usage.c.id == bindparam("which")) & unsettled
                    connection.execute(update(usage).where(same), settled)
        except BaseException as error:
            for job in jobs:
                _finish(job.done, error)
            return
        for job in jobs:
            _finish(job.done, None)

    def _look_up_prices(self) -> None:
        if time.monotonic() - self._priced > _PRICES_SECONDS:
            self._prices, self._priced = prices.current(), time.monotonic()

    def _rows(self, jobs: list[_Job]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        opened: dict[str, dict[str, Any]] = {}
        settled = []
        for job in jobs:
            if job.opening is not None:
                named = job.opening.adapters or tuple(filter(None, [job.opening.adapter]))
                self._models[job.id] = (job.opening.model, named)
                opened[job.id] = self._opened(job.opening, job.time)
            if job.settled is None:
                continue
            values = self._settled(job.id, job.settled, job.time)
            if job.id in opened:
                opened[job.id].update(values)
            else:
                settled.append({"which": job.id, **values})
        return list(opened.values()), settled

    def _opened(self, opening: Opening, when: float) -> dict[str, Any]:
        return {
            "id": opening.id,
            "server": self.server,
            "state": "open",
            "began": when,
            "ended": None,
            "day": datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d"),
            "key_id": opening.key,
            "account": opening.account,
            "user": opening.user,
            "route": opening.route,
            "model": opening.model,
            "adapter": opening.adapter,
            "prompt": 0,
            "cached": 0,
            "completion": 0,
            "unit": opening.unit,
            "cost": 0,
            "currency": None,
        }

    def _settled(self, identity: str, settled: Settled, when: float) -> dict[str, Any]:
        model, adapters = self._models.pop(identity, ("", ()))
        used = (settled.prompt, settled.cached, settled.completion)
        price = prices.of(self._prices, model, adapters, used)
        cost = price.cost(*used) if price else 0
        return {
            "state": settled.state,
            "ended": when,
            "prompt": settled.prompt,
            "cached": settled.cached,
            "completion": settled.completion,
            "cost": cost,
            "currency": price.currency if price else None,
        }


def _finish(done: Future[None], error: BaseException | None) -> None:
    """Tell who waits; who waits no longer (a client that hung up) must not stop the ledger."""
    if not done.set_running_or_notify_cancel():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def used_today(holder: Holder, day: str) -> int:
    """Tokens that the ledger holds for a key, or a user behind it, on a day."""
    key, user = holder
    query = select(func.coalesce(func.sum(usage.c.prompt + usage.c.completion), 0)).where(
        usage.c.key_id == key, usage.c.day == day, usage.c.unit == "tokens"
    )
    if user is not None:
        query = query.where(usage.c.user == user)
    with database.reading() as connection:
        return 0 if connection is None else int(connection.execute(query).scalar_one())


def recover() -> int:
    """Mark as `lost` what servers of this machine left open when they died; returns how many answers."""
    _forget_dead()
    here = socket.gethostname()[:40]
    query = select(usage.c.server).where(usage.c.state == "open").distinct()
    with database.reading() as connection:
        servers = [] if connection is None else [row.server for row in connection.execute(query)]
    dead = [server for server in servers if server.startswith(f"{here}/") and not _alive(server)]
    if not dead:
        return 0
    with database.writing() as connection:
        left = (usage.c.state == "open") & usage.c.server.in_(dead)
        return connection.execute(update(usage).where(left).values(state="lost", ended=time.time())).rowcount


def _forget_dead() -> None:
    """Remove what servers that were killed left, once it is a day old: a new one has its file before its lock."""
    for path in home("servers").glob("*.lock"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > 86400.0:
                _let_go(path)


def _hold(server: str) -> Any:
    """A lock that the kernel drops when this process dies."""
    held = _lock_file(server).open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    return held


def _lock_file(server: str) -> Path:
    return home("servers") / f"{file_name(server)}.lock"


def _alive(server: str) -> bool:
    try:
        return not _let_go(_lock_file(server))
    except FileNotFoundError:
        return False


def _let_go(path: Path) -> bool:
    """Remove the file of a server that is gone; whether it is."""
    with path.open("r+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    path.unlink(missing_ok=True)
    return True
