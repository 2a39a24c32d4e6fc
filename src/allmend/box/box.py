"""One box from start to end: a kernel inside it, the supervisor around it, nothing left afterwards.

The supervisor's thread starts the box and lives as long as it does, because `die-with-parent` is bound to the
thread
that started the child.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from allmend.box import bubblewrap, cgroups, disk, environment, levels, limits
from allmend.box.control import Control
from allmend.box.egress.gate import Dial, Gate, Resolve, resolve
from allmend.box.egress.policy import Policy
from allmend.box.egress.servers import Servers
from allmend.box.emulate import Emulator
from allmend.box.emulate_files import FileEmulator
from allmend.box.inside import seccomp
from allmend.box.interior import INSIDE, Interior
from allmend.box.notices import Emulate, Notices, report_file
from allmend.box.owner import Operator
from allmend.box.places import Places
from allmend.box.probe import Machine, probe
from allmend.box.publish import Dialer, Loopback, Published, Ways
from allmend.box.questions import Ask, Questions
from allmend.box.record import Record, clean
from allmend.box.scratch import Scratch, run_uid
from allmend.box.services import Services
from allmend.box.web import Finder, Web
from allmend.errors import Unavailable
from allmend.nouns.permissions import Permissions
from allmend.nouns.receipt import Ending, Enforcement

T = TypeVar("T")
_LOOK_AT_PORTS = 0.7
"""Seconds between looks for new web servers."""
_LAUNCH = "import sys; sys.path.append(sys.argv[1]); from inside.launcher import main; main(int(sys.argv[2]))"


@dataclass
class Settings:
    """What a box is made from."""

    permissions: Permissions
    environment: environment.Environment
    folder: Path
    """The folder that relative paths of the permissions are read from: the notebook's own."""
    level: levels.Level = "A"
    why: list[str] = field(default_factory=list)
    trace: bool = False
    """Show every file access to the supervisor: exact, slow."""
    ask: Ask | None = None
    operator: Operator = field(default_factory=Operator)
    """What this machine's owner grants: the package index."""
    colab: bool = False
    """Look like Colab: its variables, `google.colab` already imported."""
    below: tuple[str, ...] = ()
    """Package folders between the profile and the run's own layer."""
    uv: str | None = None
    """The uv program to show inside."""
    uploads: tuple[Path, ...] = ()
    web: bool = False
    """Look for web servers inside and tell `Box.web` of them."""
    scratch_parent: Path | None = None
    resolver: Resolve = resolve
    connect: Dial = asyncio.open_connection


class Box:
    """A confined kernel. `start`, talk to it at `connection`, then `end`; also a context manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.machine: Machine = probe()
        self.root = self.machine.root
        self.record = Record()
        self.questions = Questions(settings.ask)
        self.policy = Policy(settings.permissions.network.hosts, settings.operator.hosts, self.questions)
        self.ended: Ending | None = None
        self.ended_why = ""
        self.connection: dict[str, Any] = {}
        self.peak_memory: int | None = None
        self.on_end: Callable[[], None] | None = None
        self.web: Web | None = None
        """Gives web servers inside an address; only with `Settings.web`."""
        self._finder: Finder | None = None
        self._sockets: Emulator | None = None
        self._began: float | None = None
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._servers = Servers()
        self._proxy: socket.socket | None = None
        self._published: Published | None = None
        self._notices: Notices | None = None
        self._group: cgroups.Group | None = None
        self._reports: socket.socket | None = None
        self._closed = False

    # -- starting ------------------------------------------------------------------------------------------------

    def start(self, *, waiting: bool = False) -> None:
        """Start the kernel inside; raises `Unavailable` when any part of the box cannot be had.

        Args:
            waiting: the run comes later, and its time counts from `begin`.
        """
        settings = self.settings
        self._began = None if waiting else time.monotonic()
        own = self.root and settings.level != "D"
        self.uid = run_uid() if own else os.getuid()
        self.gid = self.uid if own else os.getgid()
        cgroups.sweep()
        self.scratch = Scratch(settings.scratch_parent)
        try:
            self.limits = limits.settle(
                settings.permissions.limits,
                cgroup=self.machine.cgroup,
                level=settings.level,
                root=self.root,
                scratch=self.scratch.path,
            )
            self.places = Places.of(settings.level, self.scratch)
            uploads = [f"{self.places.uploads}/{path.name}" for path in settings.uploads]
            permissions = settings.permissions
            self.services = Services(permissions, self.places, self.policy, self.record, uploads)
            self.services.address = self._address
            self.interior = Interior(settings, self.machine, self.scratch, self.places, self.uid, self.gid, self.limits)
            self.view = self.interior.furnish() if settings.level != "D" else self.interior.furnish_plainly()
            self.connection = self.interior.connection
            self._secrets_from_the_start()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._run_loop, name="allmend-box", daemon=True)
            self._thread.start()
            self._on_loop(self._launch() if settings.level != "D" else self._launch_plainly())
        except BaseException:
            self.close()
            raise

    def begin(self, ask: Ask | None) -> None:
        """The run for which this box waited begins now."""
        self.questions.answered_by(ask)
        self._began = time.monotonic()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()

    def _secrets_from_the_start(self) -> None:
        for name, secret in self.settings.permissions.secrets.items():
            if secret.environment and name in os.environ:
                self.policy.narrow(name, secret.hosts)
                self.record.add("secret", name, "allowed", detail="in the environment from the start")

    async def _launch(self) -> None:
        if self.settings.level == "B":
            self._proxy = socket.create_server(("127.0.0.1", 0), backlog=128)
        control = Control()
        dialer, dialer_inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._reports, reports_inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._reports.setblocking(False)
        self._dialer = dialer
        publish = self.settings.permissions.network.publish
        try:
            passed = [control.theirs.fileno(), reports_inside.fileno(), dialer_inside.fileno()]
            self._spawn(control.theirs.fileno(), passed)
            control.order(
                self.interior.order(
                    reports=reports_inside.fileno(),
                    dialer=dialer_inside.fileno() if (publish or self.settings.web) and self.places.separate else None,
                    shown=self.view,
                    proxy=self._proxy.getsockname()[1] if self._proxy else None,
                    keeper=not self.places.separate,
                )
            )
            listeners, _ = await asyncio.to_thread(self._run_up_and_watch, control)
        finally:
            dialer_inside.close()
            reports_inside.close()
            control.close()
        settings, local = self.settings, self.services.answer
        gate = Gate(self.policy, self.record, resolver=settings.resolver, connect=settings.connect, local=local)
        if self._proxy is not None:
            listeners = {"proxy": self._proxy}
        self._servers.gate = gate
        await self._servers.start(listeners, private=self._proxy is not None)
        await self._open_ways(dialer)
        self._loop.add_reader(self._reports, self._take_reports)
        self._watcher = asyncio.create_task(self._watch())

    async def _open_ways(self, dialer: socket.socket) -> None:
        publish, web = self.settings.permissions.network.publish, self.settings.web
        if not web and not (publish and self.places.separate):
            return
        ways: Ways = Dialer(dialer) if self.places.separate else Loopback(self._own_ports)
        self._published = Published(ways, self.record)
        if publish and self.places.separate:
            await self._published.start(publish)
        if web:
            self._finder = Finder(self._published, self.record, self.scratch.path / "web")

    def _address(self, port: int, path: str) -> str | None:
        return self.web.address(port, path) if self.web is not None and self._finder is not None else None

    def _own_ports(self) -> list[int]:
        return self._sockets.own_ports() if self._sockets is not None else []

    async def _launch_plainly(self) -> None:
        """Level D: a kernel like any other, in the notebook's own folder, with the person's own environment."""
        python, file = self.scratch.layer / "bin" / "python", self.scratch.etc / "connection.json"
        self._errors = (self.scratch.path / "errors").open("w+b")
        self._process = subprocess.Popen(
            [str(python), "-m", "ipykernel_launcher", "-f", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            cwd=self.settings.folder,
            env={**os.environ, "PATH": f"{python.parent}:{os.environ.get('PATH', '')}"},
            start_new_session=True,
        )
        self._watcher = asyncio.create_task(self._watch())

    def _run_up_and_watch(self, control: Control) -> tuple[dict[str, socket.socket], int | None]:
        def watch(fd: int) -> None:
            names, search = self._servers.names.name, self.interior.search_path
            self._notices = Notices(
                fd, self.record, judge=self.permits, emulate=self._emulators(), named=names, search=search
            )
            self._notices.start()

        try:
            return control.run_up(watch)
        except Unavailable as error:
            said = self._last_words()
            raise Unavailable(error.message + (f": {said}" if said else ""), hint=error.hint) from None

    def _spawn(self, control_fd: int, passed: list[int]) -> None:
        group = cgroups.Group(self.scratch.path.name.rpartition("-")[2])
        if self.limits.by_group:
            group.create(memory=self.limits.memory, processes=self.limits.processes, cpus=self.limits.cpus)
            self._group = group
            if group.trouble and any(record.written for record in self.limits.records):
                raise Unavailable(f"a limit cannot be kept: {'; '.join(group.trouble)}")
        python = [self.settings.environment.executable, "-I", "-S"]
        launch = [*python, "-c", _LAUNCH, str(Path(self.interior.inside).parent), str(control_fd)]
        if self.places.separate:
            assert self.machine.bwrap_path is not None
            # Three folders in memory, which only a control group would count.
            room = self.limits.disk if self.limits.by_group else min(self.limits.disk, self.limits.memory // 4)
            size = room if self.machine.bwrap_sized_tmpfs else None
            overlays = self.interior.overlays
            wall = bubblewrap.arguments(
                self.machine.bwrap_path, self.view, root=self.root, chdir="/", tmpfs_bytes=size, overlays=overlays
            )
            command = [*wall, "--", *launch]
        else:
            command = [*python, str(INSIDE / "keeper.py"), str(os.getpid()), *launch]
        # Counted from its first instruction on: a child made before it was moved would not be.
        enter = 'for f in $1; do echo $$ > "$f"; done; shift; exec "$@"'
        entries = " ".join(self._group.entries) if self._group else ""
        self._errors = (self.scratch.path / "errors").open("w+b")
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", enter, "sh", entries, *command],
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            env={},
            cwd="/",
            start_new_session=True,
        )

    def _emulators(self) -> dict[str, Emulate]:
        if self._proxy is None:
            return {}
        folders = [str(folder) for folder in (self.scratch.content, self.scratch.layer, self.scratch.home)]
        if self.interior.drive_copy is not None:
            folders.append(str(self.interior.drive_copy))
        port, ipc = self._proxy.getsockname()[1], str(self.scratch.ipc)
        sockets = Emulator(self.record, proxy_port=port, folders=folders, sockets=ipc, admit=self._servers.admit)
        self._sockets = sockets
        files = FileEmulator(self.record, [*folders, ipc])
        by_socket = ("connect", "bind", "listen")
        return {name: sockets if name in by_socket else files for name in seccomp.EMULATED}

    def _last_words(self) -> str:
        try:
            self._errors.flush()
            text = (self.scratch.path / "errors").read_bytes()[-2000:].decode("utf-8", "replace").strip()
        except (OSError, AttributeError):
            return ""
        # What every kernel says at its start, which ends with this, is nobody's last word.
        said = text.rpartition("--existing ")[2].splitlines() if "--existing " in text else ["", *text.splitlines()]
        return said[-1] if len(said) > 1 else ""

    # -- while it runs -------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the kernel's processes are there."""
        return self._process is not None and self._process.poll() is None

    def permits(self, path: str, writing: bool) -> bool:
        """Whether the box lets `path` through, judged by its text."""
        path = os.path.normpath(path)
        for target, right in sorted(self.view.rules(), key=lambda rule: -len(rule[0])):
            if path == target or path.startswith(target.rstrip("/") + "/"):
                return right in ("work", "device", "sockets") or not writing
        if path in self.interior.overlays:
            return not writing
        return any(entry.target.startswith(path.rstrip("/") + "/") for entry in self.view.shown) and not writing

    def _take_reports(self) -> None:
        """What the interpreter inside says it tried; hints for a person, never a ground for a decision."""
        assert self._reports is not None
        for _ in range(200):
            try:
                data = self._reports.recv(2048)
            except OSError:
                return
            if self.record.cell < 0:
                continue  # the kernel's own start
            kind, _, path = data.decode("utf-8", "replace").partition("\n")
            if not path.startswith("/"):
                path = os.path.join(self.places.content, path)  # noqa: PTH118
            if kind in ("read", "write", "link"):
                report_file(self.record, self.permits, path, kind == "write", "interpreter")

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
        if self._group is not None and self._group.out_of_memory():
            self.stop("memory-limit", f"it needed more than {self.limits.memory / 2**30:.1f} GiB of memory")
        else:
            code = self._process.returncode if self._process else None
            said = clean(self._last_words())
            self.stop("kernel-died", f"the kernel ended by itself (exit status {code})" + (f": {said}" if said else ""))

    async def _look_at_ports(self) -> None:
        if self._finder is not None and self.web is not None:
            await self._finder.look(self.web.served)

    def look_for_servers(self) -> bool:
        """Look for web servers inside now; whether there are any."""
        if self._finder is None or self.ended is not None or self._closed:
            return False
        self._on_loop(self._look_at_ports())
        return bool(self._finder.found)

    def flush_reports(self) -> None:
        """Take in what the interpreter has reported up to now."""
        if not self._closed and self._reports is not None and self._loop.is_running():

            async def take() -> None:
                self._take_reports()

            self._on_loop(take())

    def interrupt(self) -> None:
        """SIGINT to the kernel is sent as a message by the executor; nothing to do from outside."""

    # -- ending --------------------------------------------------------------------------------------------------

    def stop(self, how: Ending, why: str) -> None:
        """End everything inside, now. The first reason given is the one that stands."""
        with self._lock:
            if self.ended is None:
                self.ended, self.ended_why = how, why
                if how in ("time-limit", "cell-time-limit", "memory-limit", "disk-limit"):
                    self.record.add("limit", how, "stopped", detail=why)
        self._kill()
        if self.on_end is not None:
            self.on_end()

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            # bwrap takes its pid namespace with it; the keeper of level B first ends what it keeps.
            process.send_signal(signal.SIGTERM if self.settings.level == "B" else signal.SIGKILL)
            if self.settings.level == "D":
                _end_session(process.pid)
        if self._group is not None:
            self.peak_memory = self._group.peak_memory() or self.peak_memory
            if self.places.separate:
                self._group.kill()

    def enforcement(self) -> Enforcement:
        """What the receipt says about how this box was held."""
        group = self.machine.cgroup if self.limits.by_group else "none"
        return levels.enforcement(self.settings.level, self.settings.why, self.machine, uid=self.uid, cgroup=group)

    def finish(self) -> None:
        """Kill what is left and wait for it; files can be looked at safely afterwards."""
        self._kill()
        if self._process is not None:
            try:
                self._process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._group is not None:
            self._group.kill()
            self._group.remove()
            self._group = None
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
        if hasattr(self, "_thread") and self._thread.is_alive():
            self._on_loop(self._stop_serving())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=10)
        for sock in (self._reports, self._proxy, getattr(self, "_dialer", None)):
            if sock is not None:
                sock.close()
        if hasattr(self, "_errors"):
            self._errors.close()
        self.scratch.remove()

    async def _stop_serving(self) -> None:
        if hasattr(self, "_watcher"):
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._reports is not None:
            self._loop.remove_reader(self._reports)
        if self.settings.level == "D":
            return
        await self._servers.stop()
        if self._published is not None:
            await self._published.stop()
        await self._loop.shutdown_default_executor()

    def __enter__(self) -> Box:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass
