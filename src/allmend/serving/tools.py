"""Tools: what a model is told of them, how its calls are read, and how it is made to call one.

What tools look like in a prompt is the template's business. Calls come back as text in one of two forms that
templates teach: JSON between `<tool_call>` marks, or JSON alone.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from allmend.data.templates import Template
from allmend.engines import constraint
from allmend.engines.detokenise import StopStrings
from allmend.serving.faults import Fault
from allmend.serving.requests import ChatRequest, Tool
from allmend.serving.responses import ToolCall, ToolCallFunction

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class Toolbox:
    """The tools of one request."""

    tools: tuple[Tool, ...]
    marked: bool
    """Whether calls stand between marks."""
    grammar: str | None
    """Makes the model call one, where it must."""
    parallel: bool

    def described(self) -> list[dict[str, Any]]:
        """For the template."""
        return [tool.model_dump(exclude_none=True) for tool in self.tools]

    def read(self, text: str) -> tuple[str, list[ToolCall]]:
        """(text beside the calls, calls) of an answer; what is no call of a tool that is there stays text."""
        said, calls = "", []
        rest = text
        while (start := rest.find(_OPEN)) >= 0:
            said += rest[:start]
            body, closed, after = rest[start + len(_OPEN) :].partition(_CLOSE)
            call = self._call(body)
            if call is None:
                said += _OPEN + body + closed
            else:
                calls.append(call)
            rest = after
        said += rest
        if not calls and (call := self._call(said)) is not None:
            return "", [call]
        return (said.strip() if calls else said), calls if self.parallel else calls[:1]

    def _call(self, text: str) -> ToolCall | None:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict) or value.get("name") not in {tool.function.name for tool in self.tools}:
            return None
        arguments = value.get("arguments", value.get("parameters", {}))
        given = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return ToolCall(
            id=f"call_{uuid.uuid4().hex[:24]}", function=ToolCallFunction(name=value["name"], arguments=given)
        )


class CallWatch:
    """Lets the text of a stream through until a call may have begun."""

    def __init__(self) -> None:
        self._marks = StopStrings([_OPEN])
        self._text = ""
        self._shown = 0
        self._held = False

    def feed(self, text: str) -> str:
        """What may be shown now."""
        self._text += text
        if self._held:
            return ""
        begun = self._text.lstrip()
        if not begun:
            return ""
        if begun.startswith("{"):
            self._held = True
            return ""
        safe, met = self._marks.feed(self._text[self._fed :])
        self._fed = len(self._text)
        self._held = met
        self._shown += len(safe)
        return safe

    _fed = 0

    def rest(self, said: str) -> str:
        """Of what the whole answer says beside its calls, what was not shown yet."""
        return said[self._shown :] if said.startswith(self._text[: self._shown]) else ""

    @property
    def text(self) -> str:
        """Everything so far."""
        return self._text


def of_request(body: ChatRequest, template: Template) -> Toolbox | None:
    """The request's tools, or `None` where the model is to know of none; raises `Fault`."""
    named = _named(body)
    offered = body.functions_offered
    if not offered:
        if named is not None or body.tool_choice == "required":
            raise Fault(400, "tool_choice asks for a tool, but tools lists none.", param="tool_choice")
        return None
    if "tools" not in template.text:
        words = f"The chat template {template.name!r} has no place for tools: this model was not taught to use any."
        raise Fault(400, words, param="tools", code="unsupported_parameter")
    if body.tool_choice == "none":
        return None
    must = offered
    if named is not None:
        must = [tool for tool in offered if tool.function.name == named]
        if not must:
            raise Fault(400, f"tool_choice names {named!r}, which is not among tools.", param="tool_choice")
    marked = _OPEN in template.text
    grammar = _grammar(must, marked) if named is not None or body.tool_choice == "required" else None
    return Toolbox(tuple(offered), marked, grammar, body.parallel_tool_calls is not False)


def _named(body: ChatRequest) -> str | None:
    return None if body.tool_choice is None or isinstance(body.tool_choice, str) else body.tool_choice.function.name


def _grammar(tools: Sequence[Tool], marked: bool) -> str:
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.function.name},
                "arguments": tool.function.parameters or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    schema: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
    constraint.of_schema(schema, where="tools")
    compact = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    inner = json.dumps({**schema, "x-guidance": compact})
    # Rules of their own: where a mark is one token of the vocabulary, `Constraints` has it written as that token.
    around = f'open "\\n" call "\\n" close\nopen: "{_OPEN}"\nclose: "{_CLOSE}"' if marked else "call"
    return constraint.of_lark(f"start: {around}\ncall: %json {inner}\n", where="tools")
