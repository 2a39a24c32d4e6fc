"""A line that a person types for a cell that waits in `input()`, asked for while the cell's output is still read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

MOST_PROMPT = 500
MOST_LINE = 100_000


class Typing:
    """The open request of one cell, answered in a thread of its own; further requests wait for nothing: they are
    dropped while one is open, as a kernel that keeps to the protocol never sends them."""

    def __init__(self, typed: Callable[[str, bool], str | None]) -> None:
        self._typed = typed
        self._thread: threading.Thread | None = None
        self._request: dict[str, Any] = {}
        self._line: str | None = None
        self.prompt = ""
        self.hidden = False

    def ask(self, request: dict[str, Any]) -> None:
        """Begin with a kernel's `input_request`."""
        if self._thread is not None:
            return
        content, self._line = request["content"], None
        prompt = content.get("prompt")
        self._request = request
        self.prompt = prompt[:MOST_PROMPT] if isinstance(prompt, str) else ""
        self.hidden = content.get("password") is True
        self._thread = threading.Thread(target=self._wait, name="typing", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        line = self._typed(self.prompt, self.hidden)
        # Half a surrogate pair is no text that a message to the kernel could carry.
        self._line = None if line is None else line[:MOST_LINE].encode("utf-8", "replace").decode()

    @property
    def settled(self) -> bool:
        """Whether the open request has its line, or nobody gave one."""
        return self._thread is not None and not self._thread.is_alive()

    def take(self) -> tuple[dict[str, Any], str | None]:
        """The request and what was typed for it; the next one may come."""
        self._thread = None
        return self._request, self._line
