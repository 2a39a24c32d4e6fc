"""An engine that computes nothing: a token for every answer in every step, so that what is measured is all else."""

from __future__ import annotations

import queue
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from allmend.engines.text import Piece, Sink, TextRequest, TokenInfo, Usage


class StillEngine:
    """Fulfils what a server needs of a text engine."""

    context = 4096
    memory_tokens = None

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def adapters(self) -> tuple[str, ...]:
        """None."""
        return ()

    def load(self) -> tuple[int, int]:
        """Not counted."""
        return 0, 0

    def submit(self, request: TextRequest, sink: Sink) -> Any:
        """Take a request."""
        ticket = _Ticket(request, sink)
        self._inbox.put(ticket)
        return ticket

    def close(self) -> None:
        """Nothing to stop."""

    def _run(self) -> None:
        live: list[_Ticket] = []
        while True:
            try:
                while True:
                    live.append(self._inbox.get(block=not live))
            except queue.Empty:
                pass
            live = [ticket for ticket in live if ticket.step()]
            # A pace that the other side can hold: a step of a real engine takes longer.
            threading.Event().wait(0.002)


class _Ticket:
    def __init__(self, request: TextRequest, sink: Sink) -> None:
        self._request, self._sink = request, sink
        self._left = request.sampling.max_tokens or 16
        self._cancelled = False

    def cancel(self) -> None:
        """End it."""
        self._cancelled = True

    def step(self) -> bool:
        """A token more; False at the end."""
        if not self._cancelled and self._left:
            self._left -= 1
            self._sink(Piece(" word", (TokenInfo(7, None),)))
            return True
        usage = Usage(len(self._request.prompt), (self._request.sampling.max_tokens or 16) - self._left)
        self._sink(Piece(finish="cancelled" if self._left else "length", usage=usage))
        return False


def build() -> tuple[StillEngine, dict[str, Any]]:
    """For the engine's own process."""
    return StillEngine(), {}
