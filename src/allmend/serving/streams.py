"""Event streams: each event as soon as it is there, those that are there together in one piece."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from allmend.errors import AllmendError
from allmend.serving.faults import Fault, of_error
from allmend.serving.running import Running

_LARGEST = 2**16
"""Bytes that are sent together."""


class EventStream(StreamingResponse):
    """Server-sent events from `lines`, which comes to its end early where the client hangs up.

    Starlette's own does the same with a group of tasks, at three times the processor time; there are many streams.
    """

    def __init__(self, lines: AsyncIterator[bytes], running: Running) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(_together(lines, running), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all, or end when the client has gone."""
        task = asyncio.current_task()
        assert task is not None
        over = gone = False

        def hung_up(done: asyncio.Future[None]) -> None:
            nonlocal gone
            if not (done.cancelled() or over):
                gone = True
                task.cancel()

        watching = asyncio.ensure_future(self.listen_for_disconnect(receive))
        watching.add_done_callback(hung_up)
        try:
            await self.stream_response(send)
        except asyncio.CancelledError:
            if not gone or task.uncancel():
                raise
        finally:
            over = True
            watching.cancel()


async def _together(lines: AsyncIterator[bytes], running: Running) -> AsyncIterator[bytes]:
    """`lines`, joined where the next one need not be waited for: a write costs more than what is written."""
    held = b""
    async for line in lines:
        held += line
        if running.has_more and len(held) < _LARGEST:
            continue
        yield held
        held = b""
    if held:
        yield held


class QuickEvents:
    """Events that only add text, written out without a model: there is one for every token of everybody.

    Args:
        chunk: an event of the stream, whose fields beside `choices` all events share.
        around: what stands around the text in a choice, as JSON, with `%s` for it.
    """

    def __init__(self, chunk: BaseModel, around: str) -> None:
        shared = chunk.model_dump(exclude_none=True, exclude={"choices", "usage", "allmend"})
        self._head = json.dumps(shared, ensure_ascii=False, separators=(",", ":"))[:-1]
        self._around = around

    def __call__(self, index: int, text: str) -> bytes:
        """The event that adds `text` to answer `index`."""
        inside = self._around % json.dumps(text, ensure_ascii=False)
        choice = f'{{"index":{index},{inside},"finish_reason":null}}'
        return f'data: {self._head},"choices":[{choice}]}}\n\n'.encode()


def stream(events: AsyncIterator[BaseModel | bytes], running: Running) -> EventStream:
    """Server-sent events ending with `[DONE]`; a failure on the way is an event of its own.

    While the turn has not come, comments tell the place in the queue, which clients skip.
    """

    async def lines() -> AsyncIterator[bytes]:
        try:
            async for place, seconds in running.waiting():
                yield queue_comment(place, seconds)
            async for event in events:
                yield event if isinstance(event, bytes) else event_bytes(event)
            yield b"data: [DONE]\n\n"
        except (Fault, AllmendError) as error:
            fault = error if isinstance(error, Fault) else of_error(error)
            yield b"data: " + json.dumps(fault.body(), ensure_ascii=False).encode() + b"\n\n"

    return EventStream(lines(), running)


def queue_comment(place: int, seconds: float) -> bytes:
    """A comment of an event stream that tells the place in the queue."""
    return f": queue place={place} estimate={seconds:.1f}s\n\n".encode()


def event_bytes(event: BaseModel) -> bytes:
    """One event: fields that hold nothing are left out, but for `finish_reason`, which clients look for."""
    values = event.model_dump(exclude_none=True)
    for choice in values.get("choices", ()):
        choice.setdefault("finish_reason", None)
    return b"data: " + json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
