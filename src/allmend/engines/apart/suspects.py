"""Requests that were in flight when the engine's process ended: one of them may be why, and is asked again.

Whoever was beside it is not to pay for that. One end says little, and all go on as before. Of those that were in flight
twice in a row one at a time is computed, beside whatever else there is: who comes to an end is cleared, and who was in
flight a third time is not taken any more for a while.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable

from allmend.engines.text import TextRequest

HELD = 2
"""Ends of the process in a row after which only one of those that it had is computed at a time."""
MOST = 3
"""Ends of the process in a row, without having come to an end itself, after which a request is refused."""
_SECONDS = 600.0
"""For so long."""
_KNOWN = 4096
"""Requests under suspicion."""


class Suspects:
    """Those under suspicion; whoever calls holds the engine's lock."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def blame(self, requests: Iterable[tuple[TextRequest, int]]) -> None:
        """The process ended while these were in flight; each with `count` of when it was taken.

        Suspicion may expire while a request is computed: a hang is found late.
        """
        then: dict[bytes, int] = {}
        for request, count in requests:
            name = _name(request)
            then[name] = max(count, then.get(name, 0))
        for name, count in then.items():
            self._known[name] = max(count, self._count(name)) + 1, time.monotonic()
            self._known.move_to_end(name)
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    def clear(self, request: TextRequest) -> None:
        """It came to an end."""
        if self._known:
            self._known.pop(_name(request), None)

    def count(self, request: TextRequest) -> int:
        """Ends of the process that it was in flight for."""
        return self._count(_name(request)) if self._known else 0

    def _count(self, name: bytes) -> int:
        count, when = self._known.get(name, (0, 0.0))
        return count if time.monotonic() - when < _SECONDS else 0


def _name(request: TextRequest) -> bytes:
    """The same for the same request, asked by whomever."""
    return hashlib.sha256(repr(request).encode(errors="replace")).digest()
