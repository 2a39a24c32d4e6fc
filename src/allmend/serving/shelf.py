"""Which adapters are in memory: those used last, as many as there are slots; the others wait beside or on disk.

One that gives up its slot waits in memory as the engine had laid it out, while a number of bytes lasts, the one used
longest ago going first; beyond that it is read again in some tens of milliseconds. So one more adapter than slots is
no refusal and no cliff. What runs keeps its adapter's matrices to its end, also when the slot is given to another.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from allmend.engines.text import TextEngine
from allmend.errors import InputError

if TYPE_CHECKING:
    from allmend.adapters import AdapterWeights


class Shelf:
    """The adapters of one engine.

    Args:
        slots: how many are in memory at once, beyond those that requests need at this moment.
        beside: bytes of adapters that wait in memory without a slot.
    """

    def __init__(self, engine: TextEngine, slots: int, beside: int = 0) -> None:
        self._engine = engine
        self._slots = slots
        self._beside = beside
        self._waiting: OrderedDict[str, tuple[object, int]] = OrderedDict()
        self._identities: dict[str, str] = {}
        self._readers: dict[str, Callable[[], AdapterWeights]] = {}
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()
        """Held while an engine takes or gives up an adapter, never while one is read from disk."""
        self._counting = threading.Lock()
        """Held for moments only: the event loop takes it. Taken last."""
        self._reading: dict[str, threading.Lock] = {}
        self.reads = 0
        """How often an adapter was read back."""

    @property
    def loaded(self) -> int:
        """Adapters in memory."""
        return len(self._loaded)

    def add(self, name: str, weights: AdapterWeights, again: Callable[[], AdapterWeights]) -> None:
        """Take an adapter in; raises `InputError` where it does not fit.

        Args:
            again: reads it once more.
        """
        with self._lock:
            self._engine.add_adapter(name, weights)
            self._waiting.pop(name, None)
            self._identities[name], self._readers[name] = weights.identity, again
            self._loaded[name] = None
            self._make_room()

    def read(self, name: str) -> tuple[AdapterWeights, Callable[[], AdapterWeights]]:
        """An adapter from its file, for another shelf, with what reads it once more."""
        reader = self._readers[name]
        return reader(), reader

    def remove(self, name: str) -> None:
        """Forget an adapter."""
        with self._lock:
            self._identities.pop(name)
            self._readers.pop(name)
            self._reading.pop(name, None)
            self._waiting.pop(name, None)
            if name in self._loaded:
                del self._loaded[name]
                self._engine.remove_adapter(name)

    def hold(self, names: Iterable[str]) -> None:
        """Have adapters in memory until `release`; raises allmend's errors when one cannot be read back."""
        names = list(names)
        with self._counting:
            self._held.update(names)
        try:
            for name in names:
                self._load(name)
            with self._lock:
                self._make_room()
        except BaseException:
            self.release(names)
            raise

    def release(self, names: Iterable[str]) -> None:
        """Let adapters go; never waits for disk or engine."""
        with self._counting:
            self._held.subtract(names)
            self._held += Counter()

    def _load(self, name: str) -> None:
        with self._lock:
            if self._at_hand(name):
                return
            reading = self._reading.setdefault(name, threading.Lock())
        with reading:  # Those who want the same one wait for it, others do not.
            with self._lock:
                if self._at_hand(name):
                    return
                reader, identity = self._readers[name], self._identities[name]
            weights = reader()
            if weights.identity != identity:
                raise InputError(
                    "its files are no longer those that were put into service",
                    where=f"adapter {name!r}",
                    hint="Unload it and load it again.",
                )
            with self._lock:
                if self._at_hand(name):
                    return  # It was replaced meanwhile.
                if self._readers.get(name) is not reader:
                    raise InputError("it was replaced while it was read", where=f"adapter {name!r}", hint="Ask again.")
                self._engine.add_adapter(name, weights)
                self._loaded[name] = None
                self.reads += 1

    def _at_hand(self, name: str) -> bool:
        """Put an adapter that is in memory into service; False for one on disk."""
        if name in self._loaded:
            self._loaded.move_to_end(name)
            return True
        if name not in self._readers:
            raise InputError("this adapter was taken out of service", where=f"adapter {name!r}")
        if name not in self._waiting:
            return False
        self._engine.add_adapter(name, self._waiting.pop(name)[0])
        self._loaded[name] = None
        return True

    def _make_room(self) -> None:
        for name in list(self._loaded):
            if len(self._loaded) <= self._slots:
                return
            with self._counting:
                held = self._held[name]
            if not held:
                del self._loaded[name]
                self._keep(name, self._engine.remove_adapter(name))

    def _keep(self, name: str, kept: object | None) -> None:
        size = int(getattr(kept, "nbytes", 0))
        if kept is None or not 0 < size <= self._beside:
            return
        self._waiting[name] = (kept, size)
        while sum(each for _, each in self._waiting.values()) > self._beside:
            self._waiting.popitem(last=False)
