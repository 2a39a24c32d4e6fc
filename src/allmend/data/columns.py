"""Which field of a file is the prompt, which the completion: named by the person, or read off well-known names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from allmend.data.rows import ROLES, Message, Row, content_text, readable
from allmend.errors import InputError, UsageError, nearest
from allmend.nouns.examples import ExamplesKind

_PAIRS = [
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
    ("input", "target"),
    ("source", "target"),
    *((text, label) for text in ("text", "sentence", "review", "content") for label in
      ("label", "sentiment", "category", "class", "target", "rating")),
    *((text, "summary") for text in ("text", "article", "document", "dialogue")),
]  # fmt: skip
"""(prompt, completion) names people use; the first pair is allmend's own and wins over all others."""

_CONVERSATIONS = ("messages", "conversations", "conversation")
_SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system",
             "tool": "tool", "function": "tool", "observation": "tool", "bot": "assistant", "chatbot": "assistant",
             "model": "assistant", "ai": "assistant", "developer": "developer"}  # fmt: skip
_ASIDE = ("id", "test", "tests", "entry_point", "task_id", "index", "idx", "uuid", "")
"""Columns that are used elsewhere, or of which nobody expects that they are learned from."""
_COLUMN_HINT = "Name them: --prompt-column NAME --completion-column NAME."


Tools = tuple[Mapping[str, Any], ...]


class BadRow(Exception):
    """What is wrong with one row; the reader adds the place and decides whether it stops the run."""


@dataclass
class Shape:
    """How rows of one file are read. `notes` says in words what was decided or turned into text."""

    kind: ExamplesKind
    prompt: str = ""
    completion: str = ""
    extra: str | None = None
    """`input` beside `instruction`: put after it, a blank line between. Rows of JSON need not all have it."""
    extra_seen: bool = False
    """Whether a row had one."""
    value_names: Mapping[int, str] | None = None
    """Names of numbered classes, where the file declares them."""
    notes: list[str] = field(default_factory=list)
    joined: bool = False
    """Prompt and completion are both lists of messages, which make one conversation."""

    def seeing(self, values: Mapping[str, Any]) -> Shape:
        """This shape, after a look at the first row: where messages are, and which columns stay unused."""
        if (
            self.kind == "prompt_completion"
            and _is_talk(values.get(self.prompt))
            and _is_talk(values.get(self.completion))
        ):
            self.kind, self.joined = "messages", True
        used = {self.prompt, self.completion, self.extra, *_ASIDE, *(["tools"] if self.kind == "messages" else [])}
        unused = [name for name, value in values.items() if name not in used and _says_something(value)]
        if unused:
            self.notes.append(f"columns that are not used: {_listed(unused)}")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """Part of a row: column of the file."""
        if self.kind == "messages" and not self.joined:
            return {"messages": self.prompt}
        if self.kind == "text":
            return {"text": self.prompt}
        found = {"prompt": self.prompt, "completion": self.completion}
        return {**found, "input": self.extra} if self.extra is not None and self.extra_seen else found

    def row(self, values: Mapping[str, Any], place: str) -> Row:
        """One row of this shape; raises `BadRow`."""
        if self.kind == "messages":
            talk = _required(values, self.prompt)
            if self.joined and isinstance(talk, list):
                answer = _required(values, self.completion)
                talk = [*talk, *(answer if isinstance(answer, list) else [answer])]
            return _conversation(talk, place, _tools(values))
        if self.kind == "text":
            return Row(text=self._text(values, self.prompt), place=place)
        prompt = self._text(values, self.prompt)
        if self.extra is not None and (more := values.get(self.extra)):
            if not isinstance(more, str):
                raise BadRow(f"field {self.extra!r} is {_kind_of(more)}, not text")
            if not self.extra_seen:
                self.extra_seen = True
                self._note_once(f"some rows have {self.extra!r} as well; it follows {self.prompt!r}")
            prompt = f"{prompt}\n\n{more}"
        return Row(prompt=prompt, completion=self._text(values, self.completion), place=place, tests=_tests(values))

    def _text(self, values: Mapping[str, Any], name: str) -> str:
        value = _required(values, name)
        if isinstance(value, str):
            if "\0" in value:
                raise BadRow(f"field {name!r} holds a NUL character")
            return value
        if isinstance(value, bool | int | float) and self.kind == "prompt_completion":
            self._note_once(f"values of {name!r} that are numbers or true/false are read as text")
            if self.value_names and name == self.completion and value in self.value_names:
                return self.value_names[int(value)]
            return str(value).lower() if isinstance(value, bool) else f"{value}"
        raise BadRow(f"field {name!r} is {_kind_of(value)}, not text")

    def _note_once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def find_shape(names: Sequence[str], prompt: str | None, completion: str | None, where: str) -> Shape:
    """Which of `names` are the parts of a row. Named columns must exist; guesses must leave no other reading.

    Raises `UsageError` for a named column that is missing, `InputError` when nothing or too much fits.
    """
    for flag, name in (("--prompt-column", prompt), ("--completion-column", completion)):
        if name is not None and name not in names:
            hint = nearest(name, names) or f"The file has: {_listed(names)}."
            raise UsageError(f"there is no column {name!r} in {where}", where=flag, hint=hint)
    if prompt is not None and prompt == completion:
        raise UsageError("the prompt and the completion are the same column", where="--completion-column")
    if prompt and completion:
        return Shape("prompt_completion", prompt, completion)
    lowered = {name.strip().lower(): name for name in names}
    if prompt is None and completion is None:
        for name in _CONVERSATIONS:
            if name in lowered:
                return Shape("messages", lowered[name])
    fitting = [
        (lowered[p], lowered[c]) for p, c in _PAIRS
        if p in lowered and c in lowered and prompt in (None, lowered[p]) and completion in (None, lowered[c])
    ]  # fmt: skip
    if any(pair[0].strip().lower() == "instruction" for pair in fitting):
        # `input` beside `instruction` belongs to it; it is no prompt of its own.
        fitting = [pair for pair in fitting if pair[0].strip().lower() != "input"]
    if not fitting:
        return _without_a_pair(names, lowered, prompt, completion, where)
    if len(fitting) > 1 and fitting[0] != (lowered.get("prompt"), lowered.get("completion")):
        both = " or ".join(f"{p} → {c}" for p, c in fitting[:4])
        raise InputError(f"the columns can be read in more than one way: {both}", where=where, hint=_COLUMN_HINT)
    first, second = fitting[0]
    shape = Shape("prompt_completion", first, second)
    if first.strip().lower() == "instruction":
        shape.extra, shape.extra_seen = lowered.get("input", "input"), "input" in lowered
    if (first, second) != ("prompt", "completion"):
        more = f" (with {shape.extra!r} after it)" if shape.extra_seen else ""
        shape.notes.append(f"read {first!r}{more} as the prompt and {second!r} as the completion")
    return shape


def _without_a_pair(
    names: Sequence[str], lowered: Mapping[str, str], prompt: str | None, completion: str | None, where: str
) -> Shape:
    """The shape when no known pair fits: plain text, two columns of which one was named, or an error."""
    if prompt is None and completion is None and "text" in lowered:
        return Shape("text", lowered["text"])
    if (
        prompt is None
        and completion is None
        and len(names) == 1
        and names[0].strip().lower() in ("content", "document")
    ):
        return Shape("text", names[0], notes=[f"read {names[0]!r} as plain text"])
    if {"chosen", "rejected"} <= lowered.keys() and completion is None:
        ask = next((f"--prompt-column {lowered[p]} " for p, _ in _PAIRS if p in lowered), None)
        way = f"{ask}--completion-column {lowered['chosen']} learns from the chosen ones."
        raise InputError(
            "these rows are pairs of a chosen and a rejected answer, and tune learns from one answer a row",
            where=where,
            hint=way if ask else "Name the conversations to learn from 'messages' instead of 'chosen'.",
        )
    others = [name for name in names if name not in (prompt, completion)]
    if (prompt or completion) and len(others) == 1:
        shape = Shape("prompt_completion", prompt or others[0], completion or others[0])
        shape.notes.append(f"read {shape.prompt!r} as the prompt and {shape.completion!r} as the completion")
        return shape
    part = "completion" if prompt else "prompt" if completion else "prompt and which the completion"
    if not others or len(names) == 1:
        raise InputError(
            f"the first row has one column only ({_listed(names)}), and a row needs a prompt and a completion",
            where=where,
            hint="Add the other, or call the column 'text' if it is plain text to continue.",
        )
    raise InputError(
        f"cannot tell which column is the {part}; the first row has: {_listed(names)}", where=where, hint=_COLUMN_HINT
    )


def _tests(values: Mapping[str, Any]) -> str | None:
    """The tests of a row of code: a field `tests` or `test`; with `entry_point`, its `check` is called."""
    tests = values.get("tests", values.get("test"))
    if not isinstance(tests, str) or "assert" not in tests:
        return None
    name = values.get("entry_point")
    called = isinstance(name, str) and name.isidentifier() and "def check(" in tests and "\ncheck(" not in tests
    return f"{tests}\ncheck({name})\n" if called else tests


def _tools(values: Mapping[str, Any]) -> Tools | None:
    """The descriptions of tools beside a conversation: a list of objects, or one written as JSON; none when empty."""
    tools = values.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            raise BadRow("the tools are text that is not JSON") from None
    if not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRow("the tools are not a list of objects")
    return tuple(tools)


def _required(values: Mapping[str, Any], name: str) -> Any:
    value = values.get(name)
    if value is None:
        if name in values:
            raise BadRow(f"field {name!r} has no value")
        raise BadRow(f"there is no field {name!r}; the row has: {_listed([str(key) for key in values])}")
    return value


def _conversation(value: Any, place: str, tools: Tools | None) -> Row:
    """A row from a list of messages; `from`/`value` pairs are read as `role`/`content`."""
    if not isinstance(value, list) or not value:
        raise BadRow("the messages are not a list" if not isinstance(value, list) else "there are no messages")
    messages = tuple(_message(item, place_in_list + 1) for place_in_list, item in enumerate(value))
    if messages[-1]["role"] == "assistant":
        return Row(readable(messages[:-1]), content_text(messages[-1]), messages, place=place, tools=tools)
    if not any(message["role"] == "assistant" for message in messages):
        raise BadRow("no message is from the assistant, so there is nothing to learn")
    raise BadRow(f"the last message is from {messages[-1]['role']!r}, not from the assistant")


def _message(item: Any, number: int) -> Message:
    if not isinstance(item, dict):
        raise BadRow(f"message {number} is {_kind_of(item)}, not an object with role and content")
    if "from" in item and "value" in item and "role" not in item:
        item = {"role": item["from"], "content": item["value"]}
    role, content = item.get("role"), item.get("content")
    if isinstance(role, str) and role not in ROLES and role.strip().lower() in _SPEAKERS:
        role = _SPEAKERS[role.strip().lower()]
        item = {**item, "role": role}
    if role not in ROLES:
        raise BadRow(f"message {number} has the role {str(role)[:40]!r}, not one of {', '.join(ROLES)}")
    if content is None and not item.get("tool_calls"):
        raise BadRow(f"message {number} has no content")
    if isinstance(content, list):
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise BadRow(f"message {number} has parts that are not text, which are not read yet")
    elif content is not None and not isinstance(content, str):
        raise BadRow(f"message {number} has content that is {_kind_of(content)}, not text")
    if isinstance(content, str) and "\0" in content:
        raise BadRow(f"message {number} holds a NUL character")
    return {key: part for key, part in item.items() if part is not None or key == "content"}


def _is_talk(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and "role" in item for item in value)


def _says_something(value: Any) -> bool:
    """Whether a field has what one could learn from: text or structure, no number and no mark."""
    return isinstance(value, str | list | dict) and bool(value)


def _kind_of(value: Any) -> str:
    words = {
        dict: "an object",
        list: "a list",
        bool: "true/false",
        int: "a number",
        float: "a number",
        str: "text",
        bytes: "bytes",
    }
    return "empty" if value is None else words.get(type(value), f"a {type(value).__name__}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown or "no columns"
