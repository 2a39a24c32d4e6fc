"""The engine over vLLM, as far as it is our own: vLLM itself needs a GPU."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from allmend.engines.text import Piece, TextRequest
from allmend.engines.vllm import engine as vllm


class Endless:
    """In vLLM's place: an answer that does not come."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    async def generate(self, *given: Any, **more: Any) -> AsyncIterator[Any]:
        self.begun.set()
        await asyncio.Event().wait()
        yield None


@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_cancelled_is_told_once_also_before_it_has_begun(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "_parameters", lambda sampling, room: None)
    made, endless, loop = object.__new__(vllm.VllmEngine), Endless(), asyncio.new_event_loop()
    made._context, made._adapters, made._closing, made._running = 64, {}, False, 0
    made._engine, made._loop = endless, loop
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
    if not at_once:
        thread.start()
    ticket = made.submit(TextRequest((1, 2)), pieces.put)
    if not at_once:
        assert endless.begun.wait(60)
    ticket.cancel()
    if at_once:
        thread.start()  # Its first step would come now.
    assert pieces.get(timeout=60).finish == "cancelled"
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)
    loop.close()
    assert pieces.empty() and endless.begun.is_set() is not at_once
