"""Adapters that nobody added, looked for beside what is served."""

from __future__ import annotations

import asyncio
import threading

import pytest

from allmend.errors import NotFound
from allmend.serving import lookups
from allmend.serving.faults import Fault
from allmend.serving.lookups import Lookups, Unreached


def test_many_who_ask_for_a_name_share_one_lookup_and_its_failure_is_remembered() -> None:
    asked: list[str] = []
    go = threading.Event()

    def look(name: str, base: str | None) -> None:
        asked.append(name)
        assert go.wait(60)
        if name == "gone":
            raise Unreached("the hub does not answer")

    async def all_of_them() -> list[BaseException | None]:
        found = Lookups(look, patience=60)
        waiting = [asyncio.ensure_future(found.wait(name, None)) for name in ["here", "gone"] * 5]
        await asyncio.sleep(0)
        waiting.pop(0).cancel()  # One who leaves takes nothing from the others.
        go.set()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        with pytest.raises(NotFound):
            await found.wait("gone", None)
        return answers

    answers = asyncio.run(all_of_them())
    assert sorted(asked) == ["gone", "here"]
    assert [type(each) for each in answers] == [Unreached] + [type(None), Unreached] * 4


@pytest.mark.parametrize("failure", [NotFound, Unreached])
def test_what_was_not_there_may_come(failure: type[NotFound], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look(name: str, base: str | None) -> None:
        asked.append(name)
        if len(asked) == 1:
            raise failure("not yet")

    async def twice() -> None:
        found = Lookups(look, patience=60)
        with pytest.raises(NotFound):
            await found.wait("late", None)
        await found.wait("late", None)

    if failure is Unreached:
        monkeypatch.setattr(lookups, "_REMEMBER", 0.0)
    asyncio.run(twice())
    assert asked == ["late", "late"]


def test_who_asks_does_not_wait_for_ever_and_not_behind_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(lookups, "_MOST", 2)

    def look(name: str, base: str | None) -> None:
        go.wait(60)

    async def impatient() -> None:
        found = Lookups(look, patience=0.01)
        for name in ("a", "b", "a", "c"):
            with pytest.raises(Fault) as raised:
                await found.wait(name, None)
            assert raised.value.status == 503 and raised.value.headers and raised.value.headers["retry-after"]
        assert "Too many" in str(raised.value)

    try:
        asyncio.run(impatient())
    finally:
        go.set()
