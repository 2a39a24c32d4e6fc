"""Adapters in memory, while others are read and while who asked for them goes away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny
from allmend.engines.text import Sampling, TextRequest
from allmend.serving import registry as registries
from allmend.serving.desk import Desk
from allmend.serving.registry import Registry
from allmend.serving.running import Running
from allmend.serving.shelf import Shelf
from allmend.serving.visit import Visit


class Names:
    """An engine that knows names."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add_adapter(self, name: str, weights: Any) -> None:
        self.names.add(name)

    def remove_adapter(self, name: str) -> None:
        self.names.discard(name)

    def close(self) -> None:
        """Nothing runs."""


def weights(name: str) -> Any:
    return SimpleNamespace(identity=name)


def test_a_slow_disk_keeps_nobody_waiting_who_needs_something_else() -> None:
    reading, go = threading.Event(), threading.Event()
    reads: list[str] = []

    def slow() -> Any:
        reads.append("slow")
        reading.set()
        assert go.wait(60)
        return weights("slow")

    def quick() -> None:
        shelf.hold(["quick"])
        shelf.release(["quick"])

    engine: Any = Names()
    shelf = Shelf(engine, slots=1)
    shelf.add("slow", weights("slow"), slow)
    shelf.add("quick", weights("quick"), lambda: weights("quick"))
    assert engine.names == {"quick"}
    holding = [threading.Thread(target=shelf.hold, args=(["slow"],), daemon=True) for _ in range(2)]
    try:
        for thread in holding:
            thread.start()
        assert reading.wait(60)
        others = threading.Thread(target=quick, daemon=True)
        others.start()
        others.join(60)
        assert not others.is_alive()
    finally:
        go.set()
    for thread in holding:
        thread.join(60)
    assert reads == ["slow"] and "slow" in engine.names


class Slow:
    """What a request meets on its way to an engine; one step of it takes until `go`."""

    def __init__(self, step: str) -> None:
        self.step, self.begun, self.go = step, threading.Event(), threading.Event()
        self.held = 0
        self.ended = threading.Event()
        self.meter = None

    def _at(self, step: str) -> None:
        if step == self.step:
            self.begun.set()
            assert self.go.wait(60)

    def hold(self, target: Any) -> None:
        self._at("hold")
        self.held += 1

    def release(self, target: Any) -> None:
        self.held -= 1
        if self.step == "hold":
            self.ended.set()

    def done(self, base: Any) -> None:
        """The engine is not needed any more."""

    def submit(self, request: Any, sink: Any) -> Any:
        self._at("submit")
        return SimpleNamespace(cancel=self.ended.set)


@pytest.mark.parametrize("step", ["hold", "submit"])
def test_who_leaves_while_a_thread_works_leaves_nothing_behind(step: str) -> None:
    slow: Any = Slow(step)

    async def leaving() -> None:
        visit: Any = Visit(Desk())
        visit.turn = _at_once
        base = SimpleNamespace(name="b", engine=slow)
        target = SimpleNamespace(base=base, adapters=("a",), label="a")
        request = TextRequest((1,), Sampling(grammar="start: /a/"))
        prepared: Any = SimpleNamespace(target=target, requests=[request], prompts=1)
        running = Running(visit, slow, prepared)
        starting = asyncio.ensure_future(running.start())
        while not slow.begun.is_set():  # The event loop goes round meanwhile.
            await asyncio.sleep(0.001)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await running.end()
        slow.go.set()
        while not slow.ended.is_set():
            await asyncio.sleep(0.001)

    asyncio.run(leaving())
    assert slow.held == 0


async def _at_once(at_most: float | None = None) -> bool:
    return True


def served(registry: Registry, *names: str) -> Names:
    """A base `b` with adapters; one of them is in memory at once."""
    engine: Any = Names()
    about = SimpleNamespace(name="b", digest="d", base=None)
    loaded: Any = SimpleNamespace(about=about, tokenizer=tiny.tokenizer(), template=None)
    if registry.bases():
        registry.replace_base("b", loaded, engine)
    else:
        registry.add_base(loaded, engine, name="b")
    for name in names:
        registry.add_adapter(name, adapter(name))
    return engine  # type: ignore[no-any-return]


def adapter(name: str) -> Any:
    values = {"identity": name, "digest": name, "folder": Path(name), "base": None, "base_digest": None}
    return SimpleNamespace(**values, template=None, template_name=None)


def test_who_waits_while_the_model_is_replaced_has_its_adapter_in_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "_reader", lambda folder: lambda: adapter(folder.name))
    registry = Registry(slots=1)
    old = served(registry, "first", "second")
    target = registry.find("first")
    assert old.names == {"second"} and registry.use(target.base)
    new = served(registry)
    assert registry.bases()[0] is not target.base
    registry.hold(target)
    assert "first" in old.names
    # Another request has the same adapter in the new one, and keeps it when this one lets it go.
    other = registry.find("first")
    registry.hold(other)
    registry.release(target)
    registry.add_adapter("third", adapter("third"))
    assert "first" in new.names
    registry.release(other)
    registry.add_adapter("fourth", adapter("fourth"))
    assert new.names == {"fourth"}


class Between:
    """A lock; what happens when it is let go for the second time comes before anything else."""

    def __init__(self, lock: Any, meanwhile: Callable[[], object]) -> None:
        self.lock, self.meanwhile, self.times = lock, meanwhile, 0

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        self.times += 1
        if self.times == 2:
            self.meanwhile()


def test_an_adapter_goes_in_the_moment_in_which_its_model_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "_reader", lambda folder: lambda: adapter(folder.name))
    registry = Registry(slots=1)
    old = served(registry, "mine")
    lock: Any = Between(registry._lock, lambda: served(registry))
    registry._lock = lock
    registry.remove_adapter("mine")
    assert lock.times > 2 and registry.adapters() == [] and old.names == set()
