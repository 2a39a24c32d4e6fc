"""A hub on a port, in a thread of this process."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allmend.access import Listener, bind, is_loopback

if TYPE_CHECKING:
    from fastapi import FastAPI

    from allmend.access.keys import NewKey
    from allmend.hub.state import Hub, Limits

__all__ = ["HubServer", "bind", "is_loopback", "open_hub"]


class HubServer(Listener):
    """A hub that runs; close it, or use it in a `with` block.

    Attributes:
        url: where it answers, without a trailing slash: what `HF_ENDPOINT` is set to.
        hub: what it is made of.
        first: the administrator's key, where this start made it; None later.
    """

    def __init__(
        self, app: FastAPI, hub: Hub, listening: socket.socket, host: str, first: NewKey | None, **options: Any
    ) -> None:
        # Bodies are gigabytes here: the compiled parser takes a third of the processor time. Connections are kept as
        # long as clients keep theirs: closed earlier, one that is just being used again breaks.
        super().__init__(app, listening, host, **{"http": _parser(), "timeout_keep_alive": 75, **options})
        self.hub = hub
        self.first = first
        self.token: str | None = first.text if first else None
        self.after: Callable[[], None] = lambda: None

    def close(self, *, grace: float = 0.0, hurry: threading.Event | None = None) -> None:
        """Stop; see `Listener.close`. The process's own database is in use again afterwards."""
        super().close(grace=grace, hurry=hurry)
        self.after()

    def end_what_is_left(self) -> None:
        """Inspections that have not begun are left for the next start."""
        if self.hub.inspector is not None:
            self.hub.inspector.close()


def _parser() -> str:
    return "httptools" if find_spec("httptools") else "h11"


@dataclass(frozen=True)
class Opened:
    """A hub that is ready to be served."""

    hub: Hub
    app: FastAPI
    first: NewKey | None


def open_hub(
    store: str, *, loopback: bool = True, url: str | None = None, limits: Limits | None = None,
    mirror: str | None = None, mirror_token: str | None = None, inspect: bool = True,
) -> Opened:  # fmt: skip
    """Open the store and the database, make the administrator on the first start, and build the application."""
    from allmend.access import keys
    from allmend.hub.app import create_app
    from allmend.hub.cas import CasTokens, cas_router
    from allmend.hub.registering import admitting, visible
    from allmend.hub.state import Hub, Limits, shared_secret
    from allmend.hub.store import Store

    secret = shared_secret()
    uploads = _uploads(store)
    tokens = CasTokens(secret)
    hub = Hub(Store.open(store), tokens, secret, uploads, url, limits or Limits(), loopback)
    if inspect:
        from allmend.hub.inspecting import Inspector

        hub.inspector = Inspector(hub)
    if mirror is not None:
        from allmend.hub.mirror import Mirror

        hub.mirror = Mirror(hub, mirror, mirror_token)
    base = None if url is None else url.rstrip("/") + hub.cas_path
    admitted = admitting(hub.limits.quota)
    app = create_app(hub, cas_router(hub.store, tokens=tokens, base_url=base, admitted=admitted, visible=visible))
    return Opened(hub, app, keys.first_administrator())


def _uploads(store: str) -> Path:
    """Where parts of uploads wait: beside a folder's store, else in allmend's own folder."""
    from allmend.home import home

    if "://" in store:
        return home("hub", "uploads")
    folder = Path(store).expanduser().absolute() / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)  # noqa: PTH101
    return folder
