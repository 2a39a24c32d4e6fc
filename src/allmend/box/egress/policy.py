"""Which host a box may talk to. Deny by omission; a secret that was handed over narrows what is left."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from allmend.box.questions import Questions
from allmend.errors import Refused

DEFAULT_PORTS = (80, 443)


@dataclass(frozen=True)
class Grant:
    """One granted host: `name` exact or `*.suffix`, and the ports."""

    name: str
    ports: tuple[int, ...]
    operator: bool = False
    """Granted by this machine's owner: may have a non-public address."""
    asked: bool = False
    """A person allowed it while it ran."""

    @classmethod
    def of(cls, text: str, *, operator: bool = False) -> Grant:
        """From `name`, `*.suffix`, `name:port` (already checked by the permissions noun)."""
        name, _, port = text.partition(":")
        return cls(name, (int(port),) if port else DEFAULT_PORTS, operator)

    def covers(self, name: str, port: int) -> bool:
        """Whether (`name`, `port`) is inside this grant."""
        return self.names(name) and port in self.ports

    def names(self, name: str) -> bool:
        """Whether `name` is inside this grant at any port."""
        if self.name.startswith("*."):
            return name.endswith(self.name[1:]) and len(name) > len(self.name) - 1
        return name == self.name


class Policy:
    """The grants of one run. Thread-safe; only `narrow` and a person's answer change it."""

    def __init__(self, hosts: Iterable[str], operator: Iterable[str] = (), asking: Questions | None = None) -> None:
        self._grants = [Grant.of(host) for host in hosts]
        self._operator = [Grant.of(host, operator=True) for host in operator]
        self.questions = asking or Questions()
        self._confined_to: list[Grant] | None = None
        self._confined_by = ""
        self._lock = threading.Lock()

    @property
    def interactive(self) -> bool:
        """Whether a person can be asked."""
        return self.questions.possible

    def look_up(self, name: str, port: int) -> Grant | None:
        """The grant for (`name`, `port`) that needs nobody's answer."""
        with self._lock:
            return self._look_up(name, port)

    def find(self, name: str, port: int) -> Grant:
        """The grant for (`name`, `port`); raises `Refused` with the line to add. May block while a person
        decides."""
        granted = self.look_up(name, port)
        if granted is not None:
            return granted
        shown = name if port in DEFAULT_PORTS else f"{name}:{port}"
        if not self._confined_by and self.questions.allowed("host", shown):
            return Grant(name, DEFAULT_PORTS if port in DEFAULT_PORTS else (port,), asked=True)
        why = (
            f"; since the secret {self._confined_by} was handed over, only its hosts can be reached"
            if self._confined_by
            else ""
        )
        raise Refused(f"host {shown} is not permitted{why}", hint=line_to_add(shown))

    def still(self, name: str, port: int) -> bool:
        """Whether an open connection may go on: not when a secret was handed over for other hosts meanwhile."""
        return self._confined_to is None or self.look_up(name, port) is not None

    def by_operator(self, name: str, port: int) -> bool:
        """Whether this machine's owner granted exactly this."""
        return any(grant.covers(name, port) for grant in self._operator)

    def knows(self, name: str) -> bool:
        """Whether the name server may answer for `name`."""
        with self._lock:
            if any(grant.names(name) for grant in (*self._owners(), *self._reachable())):
                return True
        return self.questions.has_allowed("host", name)

    def narrow(self, secret: str, hosts: Iterable[str]) -> None:
        """From now on only `hosts` (granted ones) stay reachable, not even the owner's package index.

        `*` leaves all granted hosts.
        """
        patterns = list(hosts)
        if "*" in patterns:
            return
        with self._lock:
            new = [Grant.of(host) for host in patterns]
            old = self._confined_to
            self._confined_to = new if old is None else [g for g in old if g in new]
            self._confined_by = f"{self._confined_by}, {secret}" if self._confined_by else secret

    def _owners(self) -> list[Grant]:
        """The owner's grants, until a secret is handed over: a package index takes uploads, too."""
        return self._operator if self._confined_to is None else []

    def _reachable(self) -> list[Grant]:
        return self._grants if self._confined_to is None else self._confined_to

    def _look_up(self, name: str, port: int) -> Grant | None:
        for grant in (*self._owners(), *self._reachable()):
            # A narrowed grant still has to be inside what was granted.
            inside = grant.operator or any(g.covers(name, port) for g in self._grants)
            if inside and grant.covers(name, port):
                # Named for the secret as well, the owner's index keeps what makes it reachable.
                return next((g for g in self._operator if g.covers(name, port)), grant)
        return None


def line_to_add(host: str) -> str:
    """What a person writes to permit `host`."""
    return f'Add "{host}" to hosts under [network] in the permissions file, or run with --allow host:{host}.'
