"""Adapters that a request names and nobody added: looked for beside what is served, each once at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from allmend.errors import NotFound
from allmend.serving.faults import Fault

_AT_ONCE = 4
"""Lookups at once."""
_MOST = 64
"""Lookups that run or wait; what comes beyond them is to come again."""
_PATIENCE = 20.0
"""Seconds that a request waits for its lookup, which goes on for the next one."""
_REMEMBER = 30.0
"""Seconds for which a name is not looked for again where its hub did not answer."""
_REMEMBERED = 4096


class Unreached(NotFound):
    """Where it could be was not reached. A name that a hub says it does not have may be pushed the next moment."""


Name = tuple[str, str | None]
"""An adapter's name, and the base it was asked for with."""


class Lookups:
    """What is looked for, and what was not found.

    Args:
        look: finds an adapter and puts it into service, in seconds or minutes; raises allmend's errors.
        patience: seconds that a request waits.
    """

    def __init__(self, look: Callable[[str, str | None], None], *, patience: float = _PATIENCE) -> None:
        self._look, self._patience = look, patience
        self._under_way: dict[Name, Future[None]] = {}
        self._missing: OrderedDict[Name, tuple[float, Unreached]] = OrderedDict()
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()

    async def wait(self, name: str, base: str | None) -> None:
        """Have an adapter in service.

        Raises:
            AllmendError: it was not found, or cannot be used.
            Fault: 503 where that takes longer, or too much is looked for.
        """
        future = asyncio.wrap_future(self._start((name, base)))
        # Also where nobody waits any more, its failure was heard.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if not (await asyncio.wait({future}, timeout=self._patience))[0]:
            raise _later(f"The adapter {name!r} is still being looked for.", 5)
        if (error := future.exception()) is not None:
            raise error.with_traceback(None)

    def _start(self, name: Name) -> Future[None]:
        with self._lock:
            if (found := self._under_way.get(name)) is not None:
                return found
            until, error = self._missing.get(name, (0.0, None))
            future: Future[None] = Future()
            future.set_running_or_notify_cancel()  # It is everybody's: none of those who wait can cancel it.
            if error is not None and time.monotonic() < until:
                future.set_exception(error)
                return future
            if len(self._under_way) >= _MOST:
                raise _later("Too many adapters are being looked for.", 2)
            self._under_way[name] = future
        # Not a pool's thread: those are waited for when the process ends, and a download can take its time.
        threading.Thread(target=self._run, args=(name, future), name="allmend-lookup", daemon=True).start()
        return future

    def _run(self, name: Name, future: Future[None]) -> None:
        failure: BaseException | None = None
        try:
            with self._slots:
                self._look(*name)
        except BaseException as error:
            failure = error
        with self._lock:
            del self._under_way[name]
            if isinstance(failure, Unreached):
                self._missing[name] = (time.monotonic() + _REMEMBER, failure)
                self._missing.move_to_end(name)
                while len(self._missing) > _REMEMBERED:
                    self._missing.popitem(last=False)
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)


def _later(words: str, seconds: int) -> Fault:
    return Fault(503, words, type="server_error", code="adapter_loading", headers={"retry-after": str(seconds)})
