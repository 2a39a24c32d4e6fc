"""`app`: a notebook, or a folder of them, as a page and an HTTP API. Every run is held as `run` holds it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from allmend.errors import NotFound, Refused, UsageError
from allmend.verbs.settings import Settings

if TYPE_CHECKING:
    from allmend.access import Listener
    from allmend.apps import NotebookApp, Task
    from allmend.box.box import Box
    from allmend.box.job import Later
    from allmend.box.outputs import Shown
    from allmend.box.pool import Pool
    from allmend.nouns.permissions import Permissions
    from allmend.nouns.plan import Plan
    from allmend.nouns.receipt import CellRecord, Receipt
    from allmend.verbs.run import Prepared


_CLOSED: tuple[Literal["finished"], str] = ("finished", "every cell ran; a person closed it")


class AppSettings(Settings):
    """Settings of `app`."""

    permissions: Path | None = None
    """The permissions file (TOML) that every run goes by."""
    allow: tuple[str, ...] = ()
    """Grant one thing, as `allmend run --allow` does."""
    yes: bool = False
    """Grant what is ordinary without asking."""
    strict: bool = False
    """Refuse to serve a notebook whose plan holds a dangerous finding."""
    profile: str = "auto"
    """The packages a notebook starts with: this (this environment's), base, colab, or auto."""
    host: str = "127.0.0.1"
    """The address to listen on. Beyond the loopback visitors need the key that is printed."""
    port: int = 8899
    """The port; 0 takes a free one."""
    key: str | None = None
    """The key that visitors show; made up when it is needed and not given."""
    at_once: int = 2
    """Runs that may be under way together; the others queue."""
    store: Path | None = None
    """Where runs and their outputs are kept; under ALLMEND_HOME by default."""
    ready: int = 2
    """Kernels that are started ahead for the notebooks looked at last; 0 starts none."""
    keep_days: float | None = None
    """Remove runs older than so many days at the start; without it all are kept."""
    level: Literal["A", "B"] | None = None
    """Insist on a level of enforcement instead of the best this machine has."""


class AppServer:
    """Notebooks that are served; close it, or use it in a `with` block.

    Attributes:
        url: where a person opens it, with the key when one is needed.
        apps: what is served.
    """

    def __init__(self, listener: Listener, apps: list[NotebookApp], key: str | None, queue_close: object) -> None:
        self._listener = listener
        self._close_queue = queue_close
        self.apps = apps
        self.url = listener.url + (f"/?key={key}" if key else "/")

    def wait(self) -> None:
        """Return only when the server has ended by itself (an error) or this thread is interrupted."""
        while True:
            self._listener.check_alive()
            time.sleep(0.2)

    def close(self) -> None:
        """Stop the runs and the server."""
        assert callable(self._close_queue)
        self._close_queue()
        self._listener.close()

    def __enter__(self) -> AppServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def app(
    notebook: str | Path,
    *,
    permissions: Path | None = None,
    allow: Sequence[str] = (),
    yes: bool = False,
    strict: bool = False,
    profile: str = "auto",
    host: str = "127.0.0.1",
    port: int = 8899,
    key: str | None = None,
    at_once: int = 2,
    store: Path | None = None,
    ready: int = 2,
    keep_days: float | None = None,
    level: Literal["A", "B"] | None = None,
) -> AppServer:
    """Serve a notebook or a folder of notebooks; returns when requests are taken.

    Raises `Refused` naming what is not granted, as `run` does: a served notebook asks nobody for more than its owner
    permitted, except at the owner's own machine.
    """
    given = {name: value for name, value in locals().items() if name != "notebook"}
    return start(Path(notebook), AppSettings.of(given))


def start(path: Path, settings: AppSettings, *, agree: Callable[[Prepared], bool] | None = None) -> AppServer:
    """Plan what is to be served, check what is permitted, and listen.

    `agree` shows a person what a notebook asks for and says whether they permit it; without it `--yes`, `--allow` and a
    permissions file have to say all.
    """
    from allmend.access import Listener, bind, is_loopback
    from allmend.apps import make_app
    from allmend.apps.guard import Guard
    from allmend.apps.notebook import slugs
    from allmend.apps.servers import Registry
    from allmend.apps.store import Store
    from allmend.home import home

    if settings.at_once < 1:
        raise UsageError("at least one run at once", where="--at-once")
    paths = _notebooks(path)
    names = slugs(paths)
    if settings.ready < 0:
        raise UsageError("at least none", where="--ready")
    from allmend.box.pool import Pool

    pool = Pool(settings.ready) if settings.ready else None
    near = is_loopback(settings.host)
    apps = [_served(each, names[each], settings, agree, pool, web=near) for each in paths]
    key = settings.key or (None if near else secrets.token_urlsafe(24))
    hosts = ("localhost", "127.0.0.1", "[::1]") if near else _names(settings.host)
    listening = bind(settings.host, settings.port)
    # Names below `localhost` lead to the visitor's own machine: beyond it, a notebook's web server is not shown.
    registry = Registry(lambda: int(listening.getsockname()[1])) if near else None
    store = Store(settings.store or home("apps"), registry=registry, keep_days=settings.keep_days)
    made = make_app(apps, store, at_once=settings.at_once, guard=Guard(hosts, key), may_ask=near)
    listener = Listener(made, listening, settings.host, ws="websockets-sansio").start()

    def close() -> None:
        made.state.queue.close()
        if pool is not None:
            pool.close()

    return AppServer(listener, apps, key, close)


def _notebooks(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise NotFound("there is no such notebook or folder", where=str(path))
    found = sorted(each for each in path.glob("*.ipynb") if not each.name.startswith("."))
    if not found:
        raise NotFound("no notebooks (.ipynb) lie in this folder", where=str(path))
    return found


def _names(host: str) -> tuple[str, ...]:
    """The names a server is called by when it listens beyond the loopback."""
    import socket

    names = {host, "localhost", "127.0.0.1", socket.gethostname().lower(), socket.getfqdn().lower()}
    if host in ("0.0.0.0", "::"):
        names |= {str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None)}
    return tuple(f"[{name}]" if ":" in name else name for name in names)


def _served(
    path: Path,
    slug: str,
    settings: AppSettings,
    agree: Callable[[Prepared], bool] | None,
    pool: Pool | None,
    *,
    web: bool,
) -> NotebookApp:
    """A notebook with its plan and what its runs are permitted; raises `Refused` when that is not settled."""
    from allmend.apps import NotebookApp
    from allmend.verbs import run as running

    chosen = {name: getattr(settings, name) for name in ("permissions", "allow", "yes", "strict", "profile", "level")}
    prepared = running.prepare(path, running.RunSettings.of(chosen))
    asked = bool(agree is not None and prepared.proposals and not settings.yes and agree(prepared))
    try:
        permissions = running.agreed(prepared, asked=asked)
    except Refused as error:
        raise Refused(f"{path.name}: {error.message}", where=error.where, hint=error.hint) from None
    plan = prepared.plan

    def run(task: Task) -> Receipt:
        return _run(path, plan, permissions, settings, task, pool)

    def looked_at() -> None:
        if pool is not None:
            mine = permissions.model_copy(update=_shown_elsewhere(permissions)) if web else permissions
            running.make_ready(prepared, mine, pool, web=web)

    return NotebookApp(
        slug, path, prepared.document.content["cells"], plan, permissions, prepared.level, run, looked_at
    )


def _shown_elsewhere(permissions: Permissions) -> dict[str, object]:
    """Ports are shown at an address of their own, to whom the run belongs, and not to everybody on this machine."""
    return {"network": permissions.network.model_copy(update={"publish": []})}


def _run(
    path: Path, plan: Plan, permissions: Permissions, settings: AppSettings, task: Task, pool: Pool | None
) -> Receipt:
    from allmend.verbs import run as running

    chosen = running.RunSettings.of(
        {"output": task.folder, "profile": settings.profile, "level": settings.level, "upload": task.uploads}
    )
    prepared = running.prepare(path, chosen, plan)
    if prepared.document.sha256 != plan.subject.sha256:
        raise Refused(
            "the notebook has changed since it was planned",
            where=path.name,
            hint="Start `allmend app` again to see its new plan.",
        )
    prepared.give(task.values)
    changed: dict[str, object] = {"files": permissions.files.model_copy(update={"write": str(task.folder / "outputs")})}
    if task.web is not None:
        changed |= _shown_elsewhere(permissions)
    mine = permissions.model_copy(update=changed)
    staying: list[Box] = []

    def box_made(box: Box) -> None:
        def stop() -> None:
            box.stop(*(_CLOSED if staying else ("interrupted", "a person stopped it")))

        task.stopper(stop)

    def stay(box: Box, later: Later) -> None:
        staying.append(box)
        task.stay(box, later)

    hears = _Hears(task, prepared.document.content["cells"])
    return running.carry_out(
        prepared,
        mine,
        progress=hears,
        ask=task.ask,
        box_made=box_made,
        web=task.web,
        stay=stay,
        pool=pool,
        typed=task.typed,
    )


class _Hears:
    """Passes a run's progress on, with a cell's outputs when it has ended."""

    def __init__(self, task: Task, cells: list[dict[str, object]]) -> None:
        self.task = task
        self.cells = cells

    def cell_started(self, cell: int, source: str) -> None:
        self.task.hears.cell_started(cell, source)

    def output(self, cell: int, shown: Shown) -> None:
        self.task.hears.output(cell, shown.text)

    def ending(self) -> None:
        self.task.hears.ending()

    def cell_ended(self, record: CellRecord) -> None:
        outputs = self.cells[record.cell].get("outputs")
        self.task.hears.cell_ended(record, outputs if isinstance(outputs, list) else [])
