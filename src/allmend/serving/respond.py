"""`/v1/responses`: the same conversations as chat, in and out in the newer API's items and events."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import StreamingResponse

from allmend.engines.text import Usage
from allmend.serving import answering, chat, faults, streams
from allmend.serving.citations import Citations
from allmend.serving.faults import Fault, unsupported
from allmend.serving.file_search import searched
from allmend.serving.registry import Registry
from allmend.serving.requests import ChatRequest
from allmend.serving.response_api import (
    Incomplete,
    InputDetails,
    InputItem,
    InputPart,
    OutputCall,
    OutputMessage,
    OutputText,
    Response,
    ResponseRequest,
    ResponseUsage,
    SearchChoice,
)
from allmend.serving.responses import ToolCall
from allmend.serving.running import Running, whole
from allmend.serving.searching import FileSearchTool, SearchCall
from allmend.serving.tools import CallWatch


async def answer(request: Request, body: ResponseRequest, registry: Registry) -> Response | StreamingResponse:
    """Answer, whole or as a stream of events."""
    asked = _as_chat(body).model_copy(update={"stream": body.stream})
    asked = await searched(asked, registry, request)
    prepared, running = await chat.begin(request, asked, registry)
    made = _Made(body, prepared, running)
    if body.stream:
        return _stream(made.events(running), running)
    (given,) = await whole(request, running, 1)
    said, calls = prepared.toolbox.read(given.text) if prepared.toolbox else (given.text, [])
    return made.finished(said, calls, given.finish == "stop", given.usage)


def _as_chat(body: ResponseRequest) -> ChatRequest:
    for name in ("previous_response_id", "conversation", "background", "prompt", "top_logprobs"):
        if getattr(body, name):
            raise unsupported(name, name)
    messages: list[dict[str, Any]] = []
    if body.instructions:
        messages.append({"role": "system", "content": body.instructions})
    if isinstance(body.input, str):
        messages.append({"role": "user", "content": body.input})
    else:
        for place, item in enumerate(body.input):
            _add(messages, item, place)
    values: dict[str, Any] = {
        "model": body.model,
        "messages": messages,
        "max_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "lora": body.lora,
        "parallel_tool_calls": body.parallel_tool_calls,
    }
    if body.tools:
        values["tools"] = [
            tool.model_dump()
            if isinstance(tool, FileSearchTool)
            else {"type": "function", "function": tool.model_dump(exclude={"type"})}
            for tool in body.tools
        ]
    # `file_search` is done whenever it is among the tools.
    if body.tool_choice is not None and not isinstance(body.tool_choice, SearchChoice):
        choice = body.tool_choice
        named = None if isinstance(choice, str) else {"type": "function", "function": {"name": choice.name}}
        values["tool_choice"] = named or choice
    asked = body.text.format if body.text else None
    if asked is not None and asked.type != "text":
        values["response_format"] = {"type": asked.type}
        if asked.type == "json_schema":
            if asked.schema_ is None:
                raise Fault(400, "A format of type 'json_schema' needs a schema.", param="text.format.schema")
            values["response_format"]["json_schema"] = {"name": asked.name or "answer", "schema": asked.schema_}
    try:
        return ChatRequest.model_validate(values)
    except ValidationError as error:
        raise faults.of_pydantic(error, {}) from None


def _add(messages: list[dict[str, Any]], item: InputItem, place: int) -> None:
    where = f"input[{place}]"
    if item.type == "message":
        if item.role is None or item.content is None:
            raise Fault(400, "A message needs a role and content.", param=where, code="invalid_messages")
        messages.append({"role": item.role, "content": _text(item.content, f"{where}.content")})
    elif item.type == "function_call":
        if not item.name or not item.call_id:
            raise Fault(400, "A function_call needs a name and a call_id.", param=where, code="invalid_messages")
        function = {"name": item.name, "arguments": item.arguments or "{}"}
        call = {"id": item.call_id, "type": "function", "function": function}
        if messages and messages[-1].get("tool_calls"):
            messages[-1]["tool_calls"].append(call)
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    elif item.type == "function_call_output":
        if item.call_id is None or item.output is None:
            raise Fault(400, "It needs a call_id and an output.", param=where, code="invalid_messages")
        output = _text(item.output, f"{where}.output")
        messages.append({"role": "tool", "tool_call_id": item.call_id, "content": output})
    elif item.type != "file_search_call":  # Clients send back what they were given; the search is made anew.
        raise unsupported(f"an item of type {item.type!r}", f"{where}.type")


def _text(content: str | list[InputPart], where: str) -> str:
    if isinstance(content, str):
        return content
    for number, part in enumerate(content):
        if part.type not in ("input_text", "output_text", "text") or part.text is None:
            raise unsupported(f"a part of type {part.type!r}", f"{where}[{number}].type")
    return "\n".join(part.text or "" for part in content)


class _Made:
    """One response as it grows."""

    def __init__(self, body: ResponseRequest, prepared: chat.Prepared, running: Running) -> None:
        self._body, self._prepared, self._running = body, prepared, running
        self._id, self._created = answering.new_id("resp")
        self._message = f"msg_{uuid.uuid4().hex}"
        self._number = -1
        self._told = 0
        self._opened = False
        self._searched = prepared.body.searched
        asked = body.text.format if body.text else None
        # Brackets of JSON cite nothing.
        plain = self._searched is not None and (asked is None or asked.type == "text")
        self._citations = Citations((self._searched.results if plain and self._searched else None) or ())

    def finished(self, said: str, calls: list[ToolCall], whole: bool, usage: Usage | None) -> Response:
        """The response at its end."""
        if not self._opened:
            self._citations.feed(said)
        self._citations.finish()
        status: Any = "completed" if whole else "incomplete"
        output: list[OutputMessage | OutputCall | SearchCall] = []
        if self._searched is not None:
            output.append(self._shown(self._searched))
        if said or not calls or self._opened:
            text = OutputText(text=said, annotations=self._citations.given)
            output.append(OutputMessage(id=self._message, status=status, content=[text]))
        output.extend(self._call(call, status) for call in calls)
        made = self._response(status, output)
        made.incomplete_details = None if whole else Incomplete()
        if usage is not None:
            made.usage = ResponseUsage(
                input_tokens=usage.prompt,
                input_tokens_details=InputDetails(cached_tokens=usage.cached),
                output_tokens=usage.completion,
                total_tokens=usage.prompt + usage.completion,
            )
        return made

    async def events(self, running: Running) -> AsyncIterator[dict[str, Any]]:
        """The events of a stream, in OpenAI's order."""
        begun = self._response("in_progress", []).model_dump()
        yield self._event("response.created", response=begun)
        yield self._event("response.in_progress", response=begun)
        if self._searched is not None:
            for event in self._search(self._searched):
                yield event
        toolbox = self._prepared.toolbox
        watch = CallWatch() if toolbox else None
        text = ""
        async for _, piece in running.pieces():
            shown = watch.feed(piece.text) if watch else piece.text
            said, calls = text + shown, list[ToolCall]()
            if piece.finish is not None and watch is not None and toolbox is not None:
                said, calls = toolbox.read(watch.text)
                shown += watch.rest(said)
            if shown or (piece.finish is not None and not calls and not self._opened):
                if not self._opened:
                    for event in self._open():
                        yield event
                if shown:
                    yield self._event("response.output_text.delta", **self._place(), delta=shown, logprobs=[])
                    self._citations.feed(shown)
                    for event in self._cited():
                        yield event
            text = said
            if piece.finish is None:
                continue
            final = self.finished(said, calls, piece.finish == "stop", piece.usage)
            for event in self._cited():
                yield event
            for number, item in enumerate(final.output):
                if isinstance(item, SearchCall):
                    continue
                for event in self._close(number, item):
                    yield event
            yield self._event(f"response.{final.status}", response=final.model_dump())

    @property
    def _first(self) -> int:
        """Place of the message among the items."""
        return 0 if self._searched is None else 1

    def _shown(self, call: SearchCall) -> SearchCall:
        """The search with what it found, where the request asks to see that."""
        wanted = "file_search_call.results" in (self._body.include or ())
        return call if wanted else call.model_copy(update={"results": None})

    def _search(self, call: SearchCall) -> list[dict[str, Any]]:
        item = self._shown(call).model_dump()
        at = {"output_index": 0, "item_id": call.id}
        begun = {**item, "status": "in_progress", "results": None}
        return [
            self._event("response.output_item.added", output_index=0, item=begun),
            self._event("response.file_search_call.in_progress", **at),
            self._event("response.file_search_call.searching", **at),
            self._event("response.file_search_call.completed", **at),
            self._event("response.output_item.done", output_index=0, item=item),
        ]

    def _open(self) -> list[dict[str, Any]]:
        self._opened = True
        empty = OutputMessage(id=self._message, status="in_progress", content=[]).model_dump()
        return [
            self._event("response.output_item.added", output_index=self._first, item=empty),
            self._event("response.content_part.added", **self._place(), part=OutputText(text="").model_dump()),
        ]

    def _cited(self) -> list[dict[str, Any]]:
        """Events for the citations that were not told yet."""
        told, self._told = self._told, len(self._citations.given)
        return [
            self._event(
                "response.output_text.annotation.added",
                **self._place(),
                annotation_index=number,
                annotation=self._citations.given[number].model_dump(),
            )
            for number in range(told, self._told)
        ]

    def _close(self, number: int, item: OutputMessage | OutputCall) -> list[dict[str, Any]]:
        if isinstance(item, OutputMessage):
            part = item.content[0]
            events = [
                self._event("response.output_text.done", **self._place(), text=part.text, logprobs=[]),
                self._event("response.content_part.done", **self._place(), part=part.model_dump()),
            ]
        else:
            begun = item.model_copy(update={"arguments": "", "status": "in_progress"}).model_dump()
            at = {"item_id": item.id, "output_index": number}
            events = [
                self._event("response.output_item.added", output_index=number, item=begun),
                self._event("response.function_call_arguments.delta", **at, delta=item.arguments),
                self._event("response.function_call_arguments.done", **at, name=item.name, arguments=item.arguments),
            ]
        done = self._event("response.output_item.done", output_index=number, item=item.model_dump())
        return [*events, done]

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._message, "output_index": self._first, "content_index": 0}

    def _event(self, kind: str, **values: Any) -> dict[str, Any]:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **values}

    def _call(self, call: ToolCall, status: Any) -> OutputCall:
        return OutputCall(
            id=f"fc_{call.id.removeprefix('call_')}",
            call_id=call.id,
            name=call.function.name,
            arguments=call.function.arguments,
            status=status,
        )

    def _response(self, status: Any, output: list[OutputMessage | OutputCall | SearchCall]) -> Response:
        body = self._body
        asked = body.text.format if body.text else None
        choice = body.tool_choice
        return Response(
            id=self._id,
            created_at=self._created,
            status=status,
            instructions=body.instructions,
            max_output_tokens=body.max_output_tokens,
            metadata=body.metadata or {},
            model=self._prepared.body.model,
            output=output,
            parallel_tool_calls=body.parallel_tool_calls is not False,
            temperature=body.temperature,
            text={"format": asked.model_dump(by_alias=True, exclude_none=True) if asked else {"type": "text"}},
            tool_choice=choice if isinstance(choice, str) else choice.model_dump() if choice else "auto",
            tools=[tool.model_dump() for tool in body.tools or ()],
            top_p=body.top_p,
            truncation=body.truncation or "disabled",
            allmend=chat.provenance(self._prepared, self._running),
        )


def _stream(events: AsyncIterator[dict[str, Any]], running: Running) -> streams.EventStream:
    async def lines() -> AsyncIterator[bytes]:
        try:
            async for place, seconds in running.waiting():
                yield streams.queue_comment(place, seconds)
            async for event in events:
                text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
                yield f"event: {event['type']}\ndata: {text}\n\n".encode()
        except Exception as error:
            detail = streams.fault_of(error).detail.model_dump(exclude={"type"})
            failure = {"type": "error", "sequence_number": 0, **detail}
            yield f"event: error\ndata: {json.dumps(failure, ensure_ascii=False)}\n\n".encode()

    return streams.EventStream(lines(), running)
