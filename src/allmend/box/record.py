"""What happened in one box, by cell: bounded, thread-safe, fed by every part that sees something."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from allmend.nouns.receipt import Event, EventKind, HostBytes, Verdict

MOST_EVENTS = 5000
MOST_HOSTS = 1000
MOST_TEXT = 300


def clean(text: str, most: int = MOST_TEXT) -> str:
    """`text` from inside the box, made safe to print: no control or direction characters, bounded length."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


@dataclass
class Denial:
    """Something refused in a cell, with what a person can add to permit it."""

    cell: int
    what: str
    advice: str


@dataclass
class Traffic:
    """Bytes with one host."""

    connections: int = 0
    sent: int = 0
    received: int = 0
    operator: bool = False


@dataclass
class Record:
    """The events of one run."""

    cell: int = -1
    """The cell that runs now; events are put to it."""
    dropped: int = 0
    _events: dict[tuple[int, EventKind, str, Verdict, str, str], int] = field(default_factory=dict)
    _hosts: dict[tuple[str, int], Traffic] = field(default_factory=dict)
    _denials: list[Denial] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self,
        kind: EventKind,
        target: str,
        verdict: Verdict,
        *,
        source: str = "box",
        detail: str = "",
        advice: str | None = None,
        operator: bool = False,
        cell: int | None = None,
    ) -> None:
        """Count one event. Texts come from inside and are cleaned here.

        Args:
            source: who saw it: the box, or what inside said it.
            advice: what a person could do about a denial.
            operator: this machine's owner granted it.
            cell: the cell it belongs to; the one that runs where none is named.
        """
        target, detail = clean(target), clean(detail)
        note = "operator's grant" if operator else detail
        with self._lock:
            where = self.cell if cell is None else cell
            key = (where, kind, target, verdict, source, note)
            if key not in self._events and len(self._events) >= MOST_EVENTS:
                self.dropped += 1
                return
            self._events[key] = self._events.get(key, 0) + 1
            if verdict == "denied" and advice is not None and self._events[key] == 1 and len(self._denials) < 500:
                self._denials.append(Denial(where, detail or f"{kind} {target}", clean(advice, 400)))

    def traffic(
        self,
        host: str,
        port: int,
        *,
        connections: int = 0,
        sent: int = 0,
        received: int = 0,
        operator: bool = False,
    ) -> None:
        """Count bytes with a real host."""
        with self._lock:
            if (host, port) not in self._hosts and len(self._hosts) >= MOST_HOSTS:
                self.dropped += 1
                return
            entry = self._hosts.setdefault((host, port), Traffic())
            entry.connections += connections
            entry.sent += sent
            entry.received += received
            entry.operator = entry.operator or operator

    def denials(self, cell: int) -> list[Denial]:
        """What was refused in `cell`."""
        with self._lock:
            return [denial for denial in self._denials if denial.cell == cell]

    def events(self) -> list[Event]:
        """The events in order of their cells, each with its count."""
        with self._lock:
            items = sorted(self._events.items(), key=lambda item: item[0][0])
        return [
            Event.model_construct(
                cell=cell, kind=kind, target=target, verdict=verdict, count=count, source=source, detail=detail
            )
            for (cell, kind, target, verdict, source, detail), count in items
        ]

    def hosts(self) -> list[HostBytes]:
        """The real hosts with their bytes."""
        with self._lock:
            return [
                HostBytes(
                    host=clean(host),
                    port=port,
                    connections=entry.connections,
                    bytes_out=entry.sent,
                    bytes_in=entry.received,
                    operator=entry.operator,
                )
                for (host, port), entry in sorted(self._hosts.items())
            ]
