"""Boxes whose kernel is started and has run nothing, so that a run need not wait for one; each is used once.

What a run may do, its packages and its level are settled when its box is made, so a box made ahead fits only runs that
ask for exactly the same: it is compared, not looked up by a name. Limits count from the run's beginning. A box that
waits too long, or that nobody has asked for in a while, is taken away.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path

from allmend.box.box import Box
from allmend.box.execute import Kernel, KernelGone
from allmend.box.settings import Settings
from allmend.errors import AllmendError

KEEP_SECONDS = 600.0
"""How long a box waits, and how long after the last run a notebook is thought to be run again."""
LEAST_MEMORY = 2**30
"""Free memory below which nothing is made ahead."""


@dataclass
class Ready:
    """A box with its kernel's sockets."""

    box: Box
    kernel: Kernel
    made_at: float

    def close(self) -> None:
        """Take it away unused."""
        self.kernel.close()
        self.box.stop("finished", "it was not needed")
        self.box.close()


class Pool:
    """Started kernels, at most `most` at a time, for what was run last. Thread-safe."""

    def __init__(self, most: int = 2) -> None:
        self.most = most
        self._wanted: OrderedDict[Hashable, tuple[Settings, float]] = OrderedDict()
        self._ready: dict[Hashable, list[Ready]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._trouble: dict[Hashable, str] = {}
        self._thread = threading.Thread(target=self._tend, name="kernels", daemon=True)
        self._thread.start()

    def take(self, name: Hashable, settings: Settings) -> tuple[Ready | None, str]:
        """A box for this run, or None; and the reason, in a person's words. `name` says which notebook it is."""
        plain = _plain(settings)
        with self._changed:
            kept = self._ready.pop(name, []) if not settings.uploads else []
            known = self._wanted.get(name)
            same = known is not None and known[0] == plain
            fit = [ready for ready in kept if _fits(ready, plain)]
            rest = [ready for ready in kept if ready not in fit]
            found = fit.pop(0) if fit else None
            if fit:
                self._ready[name] = fit
            self._want(name, plain)
            why = self._trouble.get(name, "none was ready")
        for ready in rest:
            ready.close()
        if found is not None:
            return found, f"started {time.monotonic() - found.made_at:.0f} s before, and nothing had run in it"
        if settings.uploads:
            return None, "files were given, which are shown to the box from its start on"
        return None, why if same or known is None else "what the run may do or its packages have changed"

    def keep(self, name: Hashable, settings: Settings) -> None:
        """Have one ready for a notebook that will be run soon."""
        with self._changed:
            self._want(name, _plain(settings))

    def _want(self, name: Hashable, settings: Settings) -> None:
        if name in self._wanted and self._wanted[name][0] != settings:
            self._trouble.pop(name, None)
        self._wanted[name] = (settings, time.monotonic())
        self._wanted.move_to_end(name)
        while len(self._wanted) > max(1, self.most):
            self._wanted.popitem(last=False)
        self._changed.notify_all()

    def close(self) -> None:
        """Take everything away."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout=60)
        for each in self._ready.values():
            for ready in each:
                ready.close()
        self._ready.clear()

    def waiting(self) -> int:
        """How many boxes wait."""
        with self._changed:
            return sum(map(len, self._ready.values()))

    def _tend(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                old, wanted = self._expired(), self._missing()
                if not old and wanted is None:
                    self._changed.wait(timeout=5.0)
                    continue
            for ready in old:
                ready.close()
            if wanted is not None:
                self._make(*wanted)

    def _expired(self) -> list[Ready]:
        now, old = time.monotonic(), []
        for name, (_, asked_at) in list(self._wanted.items()):
            if now - asked_at > KEEP_SECONDS:
                del self._wanted[name]
        for name, kept in list(self._ready.items()):
            wanted = self._wanted.get(name)
            fresh = [r for r in kept if wanted and now - r.made_at <= KEEP_SECONDS and _fits(r, wanted[0])]
            self._ready[name] = fresh
            old += [ready for ready in kept if ready not in fresh]
        return old

    def _missing(self) -> tuple[Hashable, Settings] | None:
        """The notebook run last that lacks a box: one each, and more of a single one."""
        if sum(map(len, self._ready.values())) >= self.most or _free_memory() < LEAST_MEMORY:
            return None
        each = max(1, self.most // max(1, len(self._wanted)))
        for name, (settings, _) in reversed(self._wanted.items()):
            if len(self._ready.get(name, [])) < each and name not in self._trouble:
                return name, settings
        return None

    def _make(self, name: Hashable, settings: Settings) -> None:
        box = Box(settings)
        try:
            box.start(waiting=True)
            kernel = Kernel(box.connection, lambda: box.ended is not None)
            ready = Ready(box, kernel, time.monotonic())
            try:
                kernel.wait_until_ready()
            except BaseException:
                ready.close()
                raise
        except (AllmendError, KernelGone, OSError) as error:
            # The run itself will meet and tell it; making it again and again would help nobody.
            with self._changed:
                self._trouble[name] = f"none could be started ahead: {error}"
            return
        with self._changed:
            current = self._wanted.get(name)
            if not self._closed and current is not None and current[0] == settings:
                self._ready.setdefault(name, []).append(ready)
                return
        ready.close()


def _plain(settings: Settings) -> Settings:
    """What a box is made from, without what belongs to one run."""
    files = settings.permissions.files.model_copy(update={"write": None})
    return replace(settings, permissions=settings.permissions.model_copy(update={"files": files}), ask=None, uploads=())


def _fits(ready: Ready, settings: Settings) -> bool:
    """Whether it was made from these settings, which may have changed since, and can be used."""
    box = ready.box
    if box.settings != settings or box.ended is not None or not box.alive:
        return False
    return shutil.disk_usage(box.scratch.path).free >= box.limits.disk


def _free_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return LEAST_MEMORY
