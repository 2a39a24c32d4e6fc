"""One box from start to end: a kernel inside it, the supervisor around it, nothing left afterwards.

The supervisor's thread starts the box and lives as long as it does, because `die-with-parent` is bound to the thread
that started the child.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from allmend.box import cgroups, disk, levels, limits
from allmend.box.connections import Connections
from allmend.box.control import Control
from allmend.box.egress.policy import Policy
from allmend.box.emulate import Emulator
from allmend.box.emulate_files import FileEmulator
from allmend.box.inside import seccomp
from allmend.box.interior import Interior
from allmend.box.notices import Emulate, Notices
from allmend.box.places import Places
from allmend.box.probe import Machine, probe
from allmend.box.processes import Processes
from allmend.box.questions import Ask, Questions
from allmend.box.record import Record, clean
from allmend.box.reports import Reports
from allmend.box.scratch import Scratch, run_uid
from allmend.box.services import Services
from allmend.box.settings import Settings
from allmend.box.web import Web
from allmend.errors import Unavailable
from allmend.nouns.receipt import Ending, Enforcement

T = TypeVar("T")
_LOOK_AT_PORTS = 0.7
"""Seconds between looks for new web servers."""


class Box:
    """A confined kernel. `start`, talk to it at `connection`, then `end`; also a context manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.machine: Machine = probe()
        self.record = Record()
        self.questions = Questions(settings.ask)
        self.policy = Policy(settings.permissions.network.hosts, settings.operator.hosts, self.questions)
        self.ended: Ending | None = None
        self.ended_why = ""
        self.connection: dict[str, Any] = {}
        self.on_end: Callable[[], None] | None = None
        self.web: Web | None = None
        """Gives web servers inside an address; only with `Settings.web`."""
        self._began: float | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._processes: Processes | None = None
        self._connections: Connections | None = None
        self._reports: Reports | None = None
        self._notices: Notices | None = None

    # -- starting ------------------------------------------------------------------------------------------------

    def start(self, *, waiting: bool = False) -> None:
        """Start the kernel inside; raises `Unavailable` when any part of the box cannot be had.

        Args:
            waiting: the run comes later, and its time counts from `begin`.
        """
        settings, root = self.settings, self.machine.root
        self._began = None if waiting else time.monotonic()
        own = root and settings.level != "D"
        uid, gid = (run_uid(),) * 2 if own else (os.getuid(), os.getgid())
        cgroups.sweep()
        self.scratch = Scratch(settings.scratch_parent)
        try:
            self.limits = limits.settle(
                settings.permissions.limits,
                cgroup=self.machine.cgroup,
                level=settings.level,
                root=root,
                scratch=self.scratch.path,
            )
            self.places = Places.of(settings.level, self.scratch)
            uploads = [f"{self.places.uploads}/{path.name}" for path in settings.uploads]
            self.services = Services(settings.permissions, self.places, self.policy, self.record, uploads)
            self.services.address = self._address
            self.interior = Interior(settings, self.machine, self.scratch, self.places, uid, gid, self.limits)
            self.view = self.interior.furnish() if settings.level != "D" else self.interior.furnish_plainly()
            self.connection = self.interior.connection
            self._processes = Processes(self.interior)
            self._secrets_from_the_start()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._run_loop, args=[self._loop], name="allmend-box", daemon=True)
            self._thread.start()
            self._on_loop(self._launch() if settings.level != "D" else self._launch_plainly())
        except BaseException:
            self.close()
            raise

    def begin(self, ask: Ask | None) -> None:
        """The run for which this box waited begins now."""
        self.questions.answered_by(ask)
        self._began = time.monotonic()

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        loop.close()

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()

    def _secrets_from_the_start(self) -> None:
        for name, secret in self.settings.permissions.secrets.items():
            if secret.environment and name in os.environ:
                self.policy.narrow(name, secret.hosts)
                self.record.add("secret", name, "allowed", detail="in the environment from the start")

    async def _launch(self) -> None:
        assert self._processes is not None
        ways = self._connections = Connections(self.settings, self.places, self.policy, self.record)
        reports = self._reports = Reports(self.record, self.permits, self.places.content)
        control = Control()
        dialer = ways.dialer_inside.fileno() if ways.dialer_inside is not None else None
        try:
            inherited = [control.theirs.fileno(), reports.theirs.fileno(), *([] if dialer is None else [dialer])]
            self._processes.start(self.view, control.theirs.fileno(), inherited)
            control.order(
                self.interior.order(
                    reports=reports.theirs.fileno(),
                    dialer=dialer,
                    shown=self.view,
                    proxy=ways.proxy_port,
                    keeper=not self.places.separate,
                )
            )
            listeners, _ = await asyncio.to_thread(self._run_up_and_watch, control, ways)
        finally:
            ways.pass_on()
            reports.pass_on()
            control.close()
        await ways.start(listeners, self.services, self.scratch.path / "web")
        loop = asyncio.get_running_loop()
        loop.add_reader(reports.mine, reports.take)
        self._watcher = asyncio.create_task(self._watch())

    async def _launch_plainly(self) -> None:
        assert self._processes is not None
        self._processes.start_plainly()
        self._watcher = asyncio.create_task(self._watch())

    def _run_up_and_watch(self, control: Control, ways: Connections) -> tuple[dict[str, socket.socket], int | None]:
        def watch(fd: int) -> None:
            names, search = ways.servers.names.name, self.interior.search_path
            self._notices = Notices(
                fd, self.record, judge=self.permits, emulate=self._emulators(ways), named=names, search=search
            )
            self._notices.start()

        try:
            return control.run_up(watch)
        except Unavailable as error:
            said = self._last_words()
            raise Unavailable(error.message + (f": {said}" if said else ""), hint=error.hint) from None

    def _emulators(self, ways: Connections) -> dict[str, Emulate]:
        """Who carries out calls in the kernel's place, by their names: level B has no namespaces that would."""
        if ways.proxy_port is None:
            return {}
        folders = [str(folder) for folder in (self.scratch.content, self.scratch.layer, self.scratch.home)]
        if self.interior.drive_copy is not None:
            folders.append(str(self.interior.drive_copy))
        ipc = str(self.scratch.ipc)
        sockets = Emulator(
            self.record, proxy_port=ways.proxy_port, folders=folders, sockets=ipc, admit=ways.servers.admit
        )
        ways.own_ports = sockets.own_ports
        files = FileEmulator(self.record, [*folders, ipc])
        by_socket = ("connect", "bind", "listen")
        return {name: sockets if name in by_socket else files for name in seccomp.EMULATED}

    def _address(self, port: int, path: str) -> str | None:
        finds = self._connections is not None and self._connections.finds
        return self.web.address(port, path) if self.web is not None and finds else None

    def _last_words(self) -> str:
        return self._processes.last_words() if self._processes is not None else ""

    # -- while it runs -------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the kernel's processes are there."""
        return self._processes is not None and self._processes.alive

    @property
    def peak_memory(self) -> int | None:
        """Bytes, once it has ended, where a control group counted them."""
        return self._processes.peak_memory if self._processes is not None else None

    def permits(self, path: str, writing: bool) -> bool:
        """Whether the box lets `path` through, judged by its text."""
        return self.view.permits(path, writing, self.interior.overlays)

    async def _watch(self) -> None:
        """Time, disk and the kernel's life, looked at each second (its life more often)."""
        looked_at_disk = looked_at_ports = time.monotonic()
        while self.ended is None:
            await asyncio.sleep(0.1)
            now = time.monotonic()
            if not self.alive:
                self._died()
            elif self._began is not None and now - self._began - self.questions.waited() > self.limits.time:
                self.stop("time-limit", f"it ran longer than {self.limits.time:g} s")
            elif now - looked_at_disk > 1.0:
                used = await asyncio.to_thread(disk.used, self.scratch.path, self.limits.disk)
                looked_at_disk = time.monotonic()
                if used > self.limits.disk:
                    what = f"its files took more than {self.limits.disk / 2**30:.1f} GiB"
                    self.stop("disk-limit", f"{what}, or lay more than {disk.MOST_DEPTH} folders deep")
            elif now - looked_at_ports > _LOOK_AT_PORTS:
                await self._look_at_ports()
                looked_at_ports = time.monotonic()

    def _died(self) -> None:
        assert self._processes is not None
        if self._processes.out_of_memory():
            self.stop("memory-limit", f"it needed more than {self.limits.memory / 2**30:.1f} GiB of memory")
        else:
            code, said = self._processes.exit_status, clean(self._last_words())
            self.stop("kernel-died", f"the kernel ended by itself (exit status {code})" + (f": {said}" if said else ""))

    async def _look_at_ports(self) -> bool:
        if self._connections is None or self.web is None:
            return False
        return await self._connections.look(self.web)

    def look_for_servers(self) -> bool:
        """Look for web servers inside now; whether there are any."""
        if self.ended is not None or self._closed or self._connections is None or not self._connections.finds:
            return False
        return self._on_loop(self._look_at_ports())

    def flush_reports(self) -> None:
        """Take in what the interpreter has reported up to now."""
        reports = self._reports
        if not self._closed and reports is not None and self._loop is not None and self._loop.is_running():

            async def take() -> None:
                reports.take()

            self._on_loop(take())

    # -- ending --------------------------------------------------------------------------------------------------

    def stop(self, how: Ending, why: str) -> None:
        """End everything inside, now. The first reason given is the one that stands."""
        with self._lock:
            if self.ended is None:
                self.ended, self.ended_why = how, why
                if how in ("time-limit", "cell-time-limit", "memory-limit", "disk-limit"):
                    self.record.add("limit", how, "stopped", detail=why)
        if self._processes is not None:
            self._processes.kill()
        if self.on_end is not None:
            self.on_end()

    def enforcement(self) -> Enforcement:
        """What the receipt says about how this box was held."""
        group = self.machine.cgroup if self.limits.by_group else "none"
        settings = self.settings
        return levels.enforcement(settings.level, settings.why, self.machine, uid=self.interior.uid, cgroup=group)

    def finish(self) -> None:
        """Kill what is left and wait for it; files can be looked at safely afterwards."""
        if self._processes is not None:
            self._processes.finish()
        if self._notices is not None:
            self._notices.join(timeout=5)

    def close(self) -> None:
        """Take everything away; safe to call at any point, more than once."""
        if self._closed:
            return
        self._closed = True
        if self.ended is None:
            self.ended = "finished"
        self.finish()
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._on_loop(self._stop_serving())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=10)
        for part in (self._reports, self._connections, self._processes):
            if part is not None:
                part.close()
        self.scratch.remove()

    async def _stop_serving(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._reports is not None:
            asyncio.get_running_loop().remove_reader(self._reports.mine)
        if self._connections is not None:
            await self._connections.stop()
            await asyncio.get_running_loop().shutdown_default_executor()

    def __enter__(self) -> Box:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
