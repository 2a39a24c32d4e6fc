"""The outputs of one cell, gathered from hostile messages: known shapes only, and a bounded amount."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

MOST_BYTES = 10 * 2**20
MOST_OUTPUTS = 2000
_MOST_TRACEBACK = 200


@dataclass(frozen=True)
class Shown:
    """One piece of output as it streams: plain text for a terminal."""

    kind: Literal["stdout", "stderr", "result", "error", "note"]
    text: str


class Outputs:
    """Turns a cell's messages into nbformat 4 outputs."""

    def __init__(self, show: Callable[[Shown], None]) -> None:
        self.show = show
        self._outputs: list[dict[str, Any]] = []
        self._bytes = 0
        self._cut = False
        self._clear_next = False
        self._by_display: dict[str, list[dict[str, Any]]] = {}

    def take(self, kind: str, content: dict[str, Any]) -> None:
        """One message; unknown kinds (comms, input echoes) are passed over."""
        if kind == "clear_output":
            if content.get("wait"):
                self._clear_next = True
            else:
                self._clear()
        elif kind == "stream":
            self._stream(content)
        elif kind in ("display_data", "execute_result", "update_display_data"):
            self._display(kind, content)
        elif kind == "error":
            self._error(content)

    def note(self, text: str) -> None:
        """A line of allmend's own beneath the cell's output; never cut."""
        self._outputs.append({"output_type": "stream", "name": "stderr", "text": text})
        self.show(Shown("note", text))

    def cells(self) -> list[dict[str, Any]]:
        """The outputs so far."""
        return self._outputs

    def _room(self, size: int) -> bool:
        if self._clear_next:
            self._clear()
        if self._cut:
            return False
        self._bytes += size
        if self._bytes > MOST_BYTES or len(self._outputs) >= MOST_OUTPUTS:
            self._cut = True
            self.note(f"allmend: this cell's output was cut after {MOST_BYTES // 2**20} MiB or {MOST_OUTPUTS} pieces\n")
        return not self._cut

    def _clear(self) -> None:
        self._outputs.clear()
        self._by_display.clear()
        self._clear_next = False
        # The amount is not given back: clearing in a loop must not flood the reader.

    def _stream(self, content: dict[str, Any]) -> None:
        name, text = content.get("name"), content.get("text")
        if name not in ("stdout", "stderr") or not isinstance(text, str):
            return
        if not self._cut and self._bytes + len(text) > MOST_BYTES:
            self._append(name, text[: max(0, MOST_BYTES - self._bytes)])
        if self._room(len(text)):
            self._append(name, text)

    def _append(self, name: str, text: str) -> None:
        last = self._outputs[-1] if self._outputs else {}
        if last.get("output_type") == "stream" and last.get("name") == name:
            last["text"] += text
        else:
            self._outputs.append({"output_type": "stream", "name": name, "text": text})
        self.show(Shown("stdout" if name == "stdout" else "stderr", text))

    def _display(self, kind: str, content: dict[str, Any]) -> None:
        data = _bundle(content.get("data"))
        if data is None:
            return
        size = len(json.dumps(data))
        if not self._room(size):
            return
        transient = content.get("transient")
        display = transient.get("display_id") if isinstance(transient, dict) else None
        if kind == "update_display_data":
            for output in self._by_display.get(display, []) if isinstance(display, str) else []:
                output["data"] = data
            return
        made: dict[str, Any] = {"output_type": kind, "data": data, "metadata": {}}
        if kind == "execute_result":
            count = content.get("execution_count")
            made["execution_count"] = count if isinstance(count, int) else None
        if isinstance(display, str) and len(self._by_display) < MOST_OUTPUTS:
            self._by_display.setdefault(display[:200], []).append(made)
        self._outputs.append(made)
        plain = data.get("text/plain", "")
        self.show(Shown("result", plain if isinstance(plain, str) else ""))

    def _error(self, content: dict[str, Any]) -> None:
        trace = content.get("traceback")
        lines = (
            [line[:10_000] for line in trace[:_MOST_TRACEBACK] if isinstance(line, str)]
            if isinstance(trace, list)
            else []
        )
        if not self._room(sum(map(len, lines))):
            return
        name, value = str(content.get("ename"))[:200], str(content.get("evalue"))[:10_000]
        self._outputs.append({"output_type": "error", "ename": name, "evalue": value, "traceback": lines})
        self.show(Shown("error", "\n".join(lines) or f"{name}: {value}"))


def _bundle(data: object) -> dict[str, Any] | None:
    """A MIME bundle with text keys; None when it is none."""
    if not isinstance(data, dict) or len(data) > 50:
        return None
    kept = {key: value for key, value in data.items() if isinstance(key, str) and len(key) < 200}
    try:
        json.dumps(kept)
    except (ValueError, TypeError, RecursionError):
        return None
    return kept
