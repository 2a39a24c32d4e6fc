"""`allmend hub`: repositories of models, data and notebooks, for everyone's own tools."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from allmend.errors import Unavailable
from allmend.home import home
from allmend.verbs.settings import Settings, Size

if TYPE_CHECKING:
    from allmend.hub.server import HubServer

_DATABASE = "ALLMEND_DATABASE"


class StartHubSettings(Settings):
    """Settings of `allmend hub`."""

    store: str | None = None
    """Where contents are kept: a folder, or `s3://BUCKET/PREFIX`. Unless given, `hub` in allmend's own folder."""

    database: str | None = None
    """Where commits, accounts and keys are kept: `postgresql://…` or `sqlite:///FILE`. Unless given, ALLMEND_DATABASE,
    or a file in the store's folder."""

    host: str = "127.0.0.1"
    """The address to listen on. The default is reachable from this machine only."""

    port: int = Field(8099, ge=0, le=65535)
    """The port to listen on; 0 takes a free one."""

    url: str | None = None
    """What clients call the hub by, where something stands before it, like https://hub.example.org."""

    quota: Size | None = None
    """Most bytes of large files that one owner's repositories may have, written as `50G`."""

    mirror: str | None = None
    """Another hub: a repository that is not here is fetched from there when it is asked for."""

    inspect: bool = True
    """Look at what is uploaded as `allmend plan` does, and show what was found."""


def start_hub(
    *,
    store: str | Path | None = None,
    database: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8099,
    url: str | None = None,
    quota: Size | str | None = None,
    mirror: str | None = None,
    inspect: bool = True,
) -> HubServer:
    """Start a hub in a thread of this process; close what is given back when done.

    The first start makes an administrator, whose key is `.token` of what is given back, this once.

    Raises:
        UsageError, Unavailable: an address, a database or a store that cannot be used.
    """
    given = {key: value for key, value in locals().items() if value is not None}
    if "store" in given:
        given["store"] = str(store)
    settings = StartHubSettings.of(given)
    try:
        from allmend.hub import server
        from allmend.hub.state import Limits
    except ImportError as error:
        raise Unavailable(f"the hub needs a library that is not here: {error.name}",
                          hint="pip install 'allmend[hub]'") from None  # fmt: skip
    with ExitStack() as undo:
        listening = server.bind(settings.host, settings.port)
        undo.callback(listening.close)
        before = os.environ.get(_DATABASE)
        undo.callback(_restore, before)
        place = settings.store or str(home("hub"))
        use_database(settings.database, place)
        opened = server.open_hub(
            place,
            loopback=server.is_loopback(settings.host) and settings.url is None,
            url=settings.url,
            limits=Limits(quota=settings.quota),
            mirror=settings.mirror,
            mirror_token=os.environ.get("ALLMEND_MIRROR_TOKEN"),
            inspect=settings.inspect,
        )
        running = server.HubServer(opened.app, opened.hub, listening, settings.host, opened.first).start()
        running.after = lambda: _restore(before)
        undo.pop_all()
    return running


def _restore(address: str | None) -> None:
    """Name the database that this process used before."""
    if address is None:
        os.environ.pop(_DATABASE, None)
    else:
        os.environ[_DATABASE] = address


def use_database(address: str | None, store: str) -> None:
    """Name the database of this process: the one given, the environment's, or a file beside the store."""
    if address is not None:
        os.environ[_DATABASE] = address
    elif not os.environ.get(_DATABASE) and "://" not in store:
        folder = Path(store).expanduser().absolute()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[_DATABASE] = f"sqlite:///{folder / 'hub.sqlite'}"


def wait(server: HubServer) -> None:
    """Block until Ctrl-C or SIGTERM, then close; requests under way have a few seconds. Raises `KeyboardInterrupt`."""
    import signal
    import threading

    asked = threading.Event()

    def stop(number: int, frame: object) -> None:
        asked.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not asked.wait(0.5):
            server.check_alive()
        server.close(grace=5.0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    raise KeyboardInterrupt
