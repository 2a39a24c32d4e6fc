"""What one server knows about who may use it: keys or none, limits, the ledger, the queues before its engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from allmend.access.principal import Principal, operator
from allmend.access.quotas import Quotas
from allmend.serving.gate import Gate

if TYPE_CHECKING:
    from allmend.access.ledger import Ledger
    from allmend.serving.targets import Base

WORD = Principal("operator", "api-key", ("serve:admin",))
"""Whoever sends the one key of `--api-key`."""


@dataclass
class Desk:
    """Rules of one server. Without arguments it is open and counts nothing, as on a loopback address."""

    word: str | None = None
    """The one key of `--api-key`."""
    keys: bool = False
    """Keys of the database are asked for, and the ledger is kept."""
    parallel: int = 32
    """Answers that run at once, for each base."""
    longest: float = 10.0
    """Seconds that a request may wait for its turn."""
    queue: int = 1024
    """Answers that may wait, for each base."""
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    """What answers instead of a model when it is overloaded or its engine comes back from a crash."""
    quotas: Quotas = field(default_factory=Quotas)
    ledger: Ledger | None = None
    gates: dict[str, Gate] = field(default_factory=dict)
    draining: bool = False
    """No new work is taken: the server is about to stop."""
    under_way: int = 0
    """Requests that ask for work and are not over; not those of batches, which go on after a restart."""

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked for a key."""
        return not self.keys and self.word is None

    def gate(self, base: Base) -> Gate:
        """The queue before a base's engine."""
        gate = self._gate(base.name, self.parallel)
        gate.tokens = getattr(base.engine, "memory_tokens", None)
        return gate

    def gate_of(self, service: str, at_once: int) -> Gate:
        """The queue before what is served beside text.

        Args:
            at_once: how many of its requests are worked on beside each other.
        """
        return self._gate(f"{service}/", at_once)

    def _gate(self, name: str, at_once: int) -> Gate:
        if name not in self.gates:
            self.gates[name] = Gate(at_once, longest=self.longest, queue=self.queue)
        return self.gates[name]

    def close(self) -> None:
        """Write what is left in the ledger."""
        if self.ledger is not None:
            self.ledger.close()


def with_keys(**options: object) -> Desk:
    """A desk that asks for keys of the database and keeps the ledger."""
    from allmend.access import ledger

    return Desk(keys=True, quotas=Quotas(ledger.used_today), ledger=ledger.Ledger(), **options)  # type: ignore[arg-type]


OPEN = operator()
"""Whoever calls a server that asks for no keys."""
