"""Models and adapters by the names that requests use.

An adapter can be asked for in four spellings: by its own name as the model, `base:adapter`, `base::adapter`, or
a list `lora` beside the base's name.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from allmend.data.templates import PLAIN, Template
from allmend.engines.text import AdapterUse, TextEngine
from allmend.errors import AllmendError, InputError, NotFound, Unavailable, UsageError, nearest
from allmend.serving.lookups import Lookups
from allmend.serving.services import Services
from allmend.serving.shelf import Shelf
from allmend.serving.targets import Base, Served, ServedAdapter, Target, served_base

if TYPE_CHECKING:
    from allmend.adapters import AdapterWeights
    from allmend.serving.meter import Meter
    from allmend.serving.requests import LoraUse
    from allmend.serving.vector_stores import Stores


_MOST_ADAPTERS = 10_000
"""Adapters known at once; more are not looked for on demand."""


class Registry:
    """What is served. Any thread may look things up while another adds or removes adapters.

    Args:
        slots: adapters in memory at once, for each base.
        beside: bytes of adapters that wait in memory without a slot, for each base.
        fetch: finds an adapter that nobody has added by the name a request used; `None` finds none.
    """

    def __init__(
        self, *, slots: int = 64, beside: int = 0, fetch: Callable[[str], AdapterWeights] | None = None
    ) -> None:
        self._slots, self._beside = slots, beside
        self._fetch = fetch
        self.lookups = Lookups(self._fetch_unknown)
        self.meter: Meter | None = None
        self.closing = False
        self.taken = 0
        """Requests for text that were begun, ever."""
        self._bases: dict[str, Base] = {}
        self._adapters: dict[str, ServedAdapter] = {}
        self.services = Services()
        self.stores: Stores | None = None
        self._lock = threading.Lock()
        """Held for moments only: the event loop takes it."""
        self._changing: set[str] = set()
        self._uses: Counter[int] = Counter()
        self._retired: dict[int, Base] = {}

    def add_base(
        self, loaded: Served, engine: TextEngine, *, name: str | None = None, answer_limit: int = 2**31
    ) -> Base:
        """Serve a loaded model; its chat template is its own, or the documented plain one."""
        base = served_base(loaded, engine, Shelf(engine, self._slots, self._beside), name, answer_limit)
        with self._lock:
            self._free(base.name)
            self._bases[base.name] = base
        return base

    def replace_base(self, name: str, loaded: Served, engine: TextEngine) -> list[str]:
        """Answer under `name` with another model from now on; returns the adapters that do not fit it and are gone.

        Requests that have begun, or wait in the queue, end with the old one, whose engine is closed after the last.
        """
        if name not in self._bases:
            raise NotFound(f"there is no model {name!r} here", hint=nearest(name, self._bases) or None)
        shelf = Shelf(engine, self._slots, self._beside)
        made = served_base(loaded, engine, shelf, name, self._bases[name].answer_limit)
        with self._lock:
            mine = [adapter for adapter in self._adapters.values() if adapter.base == name]
            before = self._bases[name].shelf
        carried = {adapter.name: adapter for adapter in mine if self._carry(adapter, before, shelf, made)}
        with self._lock:
            old, self._bases[name] = self._bases[name], made
            # Also those that were loaded, or loaded anew, in the meantime.
            gone = [each.name for each in self._adapters.values() if each.base == name and not _same(each, carried)]
            for each in gone:
                del self._adapters[each]
            left = [each for each in carried if each not in self._adapters]
            idle = not self._uses[id(old)]
            if not idle:
                self._retired[id(old)] = old
        for each in left:
            shelf.remove(each)
        if idle:
            old.engine.close()
        return gone

    def _carry(self, adapter: ServedAdapter, before: Shelf, shelf: Shelf, made: Base) -> bool:
        """Whether an adapter fits the model that takes its base's place, and is on its shelf."""
        try:
            weights, again = before.read(adapter.name)
            _check_base(weights, made, adapter.name)
            # Files that are no longer those that were put into service are not what its name stands for.
            if fits := weights.identity == adapter.identity:
                shelf.add(adapter.name, weights, again)
        except (AllmendError, KeyError):  # It was taken out of service meanwhile.
            return False
        return fits

    def add_adapter(
        self, name: str, weights: AdapterWeights, *, base: str | None = None, replace: bool = False
    ) -> ServedAdapter:
        """Serve an adapter; raises `InputError` where it does not belong to the base.

        Args:
            replace: take the place of one of that name, which answers until the new one was accepted, and goes on
                where it is not.
        """
        found = self._base_for(name, weights, base)
        _check_base(weights, found, name)
        template = None
        if weights.template is not None:
            named = PLAIN if weights.template == PLAIN.text else None
            template = named or Template(weights.template_name or f"adapter:{name}", weights.template)
        with self._changes(name):
            before = self._adapters.get(name) if replace else None
            if before is None:
                self._free(name)
            shelf = found.shelf
            # Disk and engine take their time, which nobody may wait for who holds the lock.
            shelf.add(name, weights, _reader(weights.folder))
            made = ServedAdapter(
                name,
                found.name,
                weights.digest,
                weights.identity,
                _source(weights.folder),
                template,
                int(time.time()),
            )
            with self._lock:
                if self._bases[found.name] is not found:
                    raise Unavailable(f"{found.name} was replaced meanwhile", hint="Load the adapter again.")
                self._adapters[name] = made
            if before is not None and before.base != found.name:
                self._bases[before.base].shelf.remove(name)
        return made

    def remove_adapter(self, name: str) -> None:
        """Serve an adapter no more; requests that use it run to their end."""
        with self._changes(name):
            with self._lock:
                if name not in self._adapters:
                    raise NotFound(f"there is no adapter {name!r}", hint=nearest(name, self._adapters) or None)
                shelf = self._bases[self._adapters.pop(name).base].shelf
            shelf.remove(name)

    @contextmanager
    def _changes(self, name: str) -> Iterator[None]:
        """One at a time changes what a name stands for; raises `UsageError` for the second."""
        with self._lock:
            if name in self._changing:
                raise UsageError(f"the adapter {name!r} is being loaded or unloaded", hint="Try again in a moment.")
            self._changing.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._changing.discard(name)

    def bases(self) -> list[Base]:
        """Base models, in the order they were added."""
        return list(self._bases.values())

    def adapters(self) -> list[ServedAdapter]:
        """Adapters, in the order they were added: their place is their id for `lora`."""
        return list(self._adapters.values())

    def shelf(self, base: str) -> Shelf:
        """Which adapters of a base are in memory."""
        return self._bases[base].shelf

    def hold(self, target: Target) -> None:
        """Have the adapters of a request in memory until `release`."""
        if target.adapters:
            target.base.shelf.hold(adapter.name for adapter in target.adapters)

    def release(self, target: Target) -> None:
        """Let them go: what runs keeps what it needs."""
        if target.adapters:
            target.base.shelf.release(adapter.name for adapter in target.adapters)

    def base_of(self, name: str) -> Base | None:
        """The base that a model's or adapter's own name leads to; None for other spellings."""
        adapter = self._adapters.get(name)
        return self._bases.get(adapter.base if adapter else name)

    def use(self, base: Base) -> bool:
        """Keep a base's engine until `done`; False where it was replaced by another."""
        with self._lock:
            if self._bases.get(base.name) is not base:
                return False
            self._uses[id(base)] += 1
            self.taken += 1
            return True

    def done(self, base: Base) -> None:
        """Let a base go; a replaced one is closed with its last use."""
        with self._lock:
            self._uses[id(base)] -= 1
            idle = self._uses[id(base)] <= 0
            if idle:
                del self._uses[id(base)]
            retired = self._retired.pop(id(base), None) if idle else None
        if retired is not None:
            threading.Thread(target=retired.engine.close, name="allmend-retire", daemon=True).start()

    def find(self, model: str, lora: Sequence[LoraUse] | None = None) -> Target:
        """What a request means, of what is served; raises `NotFound` naming the nearest names."""
        self.services.refuse_text(model)
        base, adapter = self._split(model)
        if lora is None:
            return self._target(base, [(adapter, 1.0)] if adapter else [])
        if adapter is not None:
            raise UsageError("name the base model when `lora` lists the adapters", where="lora")
        return self._target(base, [(self._by_id(use.id), use.scale) for use in lora])

    def close(self) -> None:
        """Stop every engine."""
        self.closing = True
        for base in self._bases.values():
            base.engine.close()
        self.services.close()

    def unknown(self, model: str, lora: Sequence[LoraUse] | None = None) -> list[tuple[str, str | None]]:
        """(name, base where it says one) of the adapters that a request asks for and `lookups` may find."""
        if self._fetch is None or self.services.get(model) is not None:
            return []
        asked: list[tuple[str, str | None]] = [(use.id, None) for use in lora or () if isinstance(use.id, str)]
        if model not in self._bases and model not in self._adapters:
            bases = sorted((name for name in self._bases if model.startswith(f"{name}:")), key=len)
            asked.append((model[len(bases[-1]) :].lstrip(":"), bases[-1]) if bases else (model, None))
        if len(self._adapters) >= _MOST_ADAPTERS:
            return []
        return [(name, base) for name, base in asked if name not in self._adapters and name not in self._bases]

    def _fetch_unknown(self, name: str, base: str | None) -> None:
        """Put an adapter into service that is asked for by where it is."""
        if self._fetch is None or name in self._adapters:
            return
        try:
            weights = self._fetch(name)
        except NotFound as error:
            known = [*self._bases, *self._adapters]
            hint = nearest(name, known) or (f"{error.message}. {error.hint or ''}".strip())
            raise type(error)(f"There is no model or adapter {name!r} here", hint=hint) from None
        try:
            self.add_adapter(name, weights, base=base)
        except UsageError:
            if name not in self._adapters:  # It was added meanwhile.
                raise

    def _split(self, model: str) -> tuple[Base, ServedAdapter | None]:
        bases, adapters = self._bases, self._adapters
        if model in bases:
            return bases[model], None
        if model in adapters:
            return bases[adapters[model].base], adapters[model]
        for separator in ("::", ":"):
            place = model.find(separator)
            while place >= 0:
                first, second = model[:place], model[place + len(separator) :]
                if first in bases and second in adapters and adapters[second].base == first:
                    return bases[first], adapters[second]
                if first in bases and not second.startswith(":"):
                    mine = [name for name, adapter in adapters.items() if adapter.base == first]
                    raise NotFound(
                        f"{first!r} has no adapter {second!r}", hint=nearest(second, mine) or None, where=model
                    )
                place = model.find(separator, place + 1)
        known = [*bases, *adapters]
        raise NotFound(f"The model {model!r} does not exist here", hint=nearest(model, known) or None)

    def _by_id(self, identity: int | str) -> ServedAdapter:
        adapters = self.adapters()
        if isinstance(identity, int):
            if 0 <= identity < len(adapters):
                return adapters[identity]
            raise NotFound(f"there is no adapter with id {identity}; there are {len(adapters)}")
        if identity not in self._adapters:
            raise NotFound(f"there is no adapter {identity!r}", hint=nearest(identity, self._adapters) or None)
        return self._adapters[identity]

    def _target(self, base: Base, uses: list[tuple[ServedAdapter, float]]) -> Target:
        for adapter, _ in uses:
            if adapter.base != base.name:
                raise UsageError(f"the adapter {adapter.name!r} belongs to {adapter.base!r}, not {base.name!r}")
        if len({adapter.name for adapter, _ in uses}) < len(uses):
            raise UsageError("`lora` names an adapter twice")
        return Target(
            base,
            tuple(adapter for adapter, _ in uses),
            tuple(AdapterUse(adapter.name, scale) for adapter, scale in uses),
        )

    def _base_for(self, name: str, weights: AdapterWeights, base: str | None) -> Base:
        if base is not None:
            if base not in self._bases:
                raise NotFound(f"there is no model {base!r} here", hint=nearest(base, self._bases) or None)
            return self._bases[base]
        if len(self._bases) == 1:
            return next(iter(self._bases.values()))
        for candidate in self._bases.values():
            if weights.base_digest == candidate.digest or weights.base in (candidate.name, candidate.source):
                return candidate
        raise InputError(
            f"it was made for {weights.base or 'a model it does not name'}, which is not served here",
            where=f"adapter {name!r}",
        )

    def _free(self, name: str) -> None:
        if name in self._bases or name in self._adapters or self.services.get(name) is not None:
            raise UsageError(f"the name {name!r} is taken", hint="Every model and adapter needs a name of its own.")


def _same(adapter: ServedAdapter, carried: dict[str, ServedAdapter]) -> bool:
    known = carried.get(adapter.name)
    return known is not None and known.identity == adapter.identity


def _check_base(weights: AdapterWeights, base: Base, name: str) -> None:
    if weights.base_digest is not None and weights.base_digest != base.digest:
        raise InputError(
            f"it was made for {weights.base} with digest {weights.base_digest[:12]}; "
            f"{base.name} here has {base.digest[:12]}",
            where=f"adapter {name!r}",
            hint="Serve the base it was made for.",
        )


def _reader(folder: Path) -> Callable[[], AdapterWeights]:
    def again() -> AdapterWeights:
        from allmend import adapters

        return adapters.read(folder)

    return again


def _source(folder: Path) -> str:
    """The folder's own name: where it lies on this machine is nobody's business."""
    return folder.name
