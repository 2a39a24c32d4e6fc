"""Web servers of runs, each under a name of its own: `LABEL.localhost`, with a one-time token and a cookie.

A name of its own makes an origin of its own: what a notebook serves there can read neither the page that shows the
link nor another server's, and a browser keeps cookies, storage and workers of each apart. The label is drawn anew for
every server of every run, so that nothing left in a browser meets a later run.

The link holds a token that works once. It is exchanged for a cookie that only this name gets, that no script can read,
and that never reaches the notebook.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ENTER = "/.allmend/enter"
COOKIE = "allmend_server"
TOKEN_SECONDS = 300.0
_SUFFIX = ".localhost"


@dataclass
class Shown:
    """One web server of one run."""

    run: str
    port: int
    label: str = field(default_factory=lambda: f"run-{secrets.token_hex(10)}")
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    """The cookie's value."""
    path: Path | None = None
    """The Unix socket that leads to it; None until it answers."""
    first: str = "/"
    """Where a person begins."""
    hosts: tuple[str, ...] = ()
    """Hosts that the run may talk to, which its pages may too."""
    used_at: float = field(default_factory=time.monotonic)
    open_now: int = 0
    """Answers and websockets under way."""

    @property
    def host(self) -> str:
        """The name that it goes by."""
        return self.label + _SUFFIX

    def knows(self, value: str) -> bool:
        """Whether a cookie's value is the right one."""
        return hmac.compare_digest(value.encode("utf-8", "replace"), self.secret.encode())


class Registry:
    """Every web server that is shown. Thread-safe."""

    def __init__(self, port: Callable[[], int]) -> None:
        self._port = port
        self._by_host: dict[str, Shown] = {}
        self._by_run: dict[tuple[str, int], Shown] = {}
        self._tokens: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def reserve(self, run: str, port: int, *, first: str | None = None, hosts: tuple[str, ...] = ()) -> Shown:
        """The entry of a run's port, made when there is none: its name is settled before it answers."""
        with self._lock:
            found = self._by_run.get((run, port))
            if found is None:
                found = self._by_run[run, port] = Shown(run, port, hosts=hosts)
                self._by_host[found.host] = found
            if first is not None and first.startswith("/") and found.first == "/":
                found.first = first
            return found

    def address(self, shown: Shown, path: str = "/") -> str:
        """Its address, which opens nothing by itself."""
        return f"http://{shown.host}:{self._port()}{path if path.startswith('/') else '/'}"

    def link(self, shown: Shown, *, lasts: float = TOKEN_SECONDS) -> str:
        """An address that lets its first user in, within `lasts` seconds."""
        token, now = secrets.token_urlsafe(24), time.monotonic()
        with self._lock:
            self._tokens = {key: kept for key, kept in self._tokens.items() if kept[1] > now}
            self._tokens[token] = (shown.host, now + lasts)
        return self.address(shown, f"{ENTER}?token={token}")

    def enter(self, host: str, token: str) -> Shown | None:
        """Use a token up; None when it is not good for this name."""
        with self._lock:
            kept = self._tokens.get(token)
            if kept is None or kept[0] != host:
                return None
            del self._tokens[token]
            return self._by_host.get(host) if kept[1] > time.monotonic() else None

    def find(self, host: str) -> Shown | None:
        """What goes by this name."""
        return self._by_host.get(host)

    def of(self, run: str) -> list[Shown]:
        """The servers of a run that answer, by port."""
        with self._lock:
            mine = [each for (name, _), each in self._by_run.items() if name == run and each.path is not None]
        return sorted(mine, key=lambda each: each.port)

    def forget(self, run: str) -> None:
        """The run is over: its names go."""
        with self._lock:
            for key in [key for key in self._by_run if key[0] == run]:
                del self._by_host[self._by_run.pop(key).host]

    def idle_seconds(self, run: str) -> float:
        """How long nobody has used any server of a run."""
        mine = self.of(run)
        if any(each.open_now for each in mine):
            return 0.0
        return min((time.monotonic() - each.used_at for each in mine), default=0.0)


def is_server_name(name: str) -> bool:
    """Whether a host name is one that web servers of notebooks get."""
    return name.startswith("run-") and name.endswith(_SUFFIX)
