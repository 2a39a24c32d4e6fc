"""One row of a person's data, and a set of rows with its splits. Light values: a million of them fit in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from allmend.nouns.examples import Examples, ExamplesKind

Message = Mapping[str, Any]
"""`role` and `content`, and for tools `tool_calls`, `tool_call_id` or `name`, as chat templates read them."""

ROLES = ("system", "developer", "user", "assistant", "tool")
"""The roles a message may have."""

MOST_LABELS = 100
"""More distinct completions than this are not a classification."""

LONGEST_LABEL = 64
"""Characters; a longer completion is not a label."""


@dataclass(frozen=True, slots=True)
class Row:
    """One example.

    A conversation keeps its `messages`; its `prompt` is then the readable text of all before the last answer and
    its `completion` that answer, so that checks and metrics treat every kind alike. Plain text has `text` only.
    """

    prompt: str = ""
    completion: str = ""
    messages: tuple[Message, ...] | None = None
    text: str | None = None
    place: str = ""
    """`file:line`, for messages about this row."""
    tests: str | None = None
    """For code: the program that checks an answer by running beneath it. Never learned from."""
    tools: tuple[Mapping[str, Any], ...] | None = None
    """Of a conversation: descriptions of the tools that may be called, which the chat template writes."""

    @property
    def kind(self) -> ExamplesKind:
        """Which of the three kinds this row is."""
        if self.text is not None:
            return "text"
        return "prompt_completion" if self.messages is None else "messages"

    @property
    def given(self) -> str:
        """What the model is given: the text that decides whether two rows ask the same thing."""
        return self.prompt if self.text is None else self.text

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to learn from: no text, no completion or no prompt (spaces do not count).

        A conversation is empty when its last answer neither says nor calls anything.
        """
        if self.text is not None:
            return not self.text.strip()
        if self.messages is not None:
            return not self.completion.strip() and not self.messages[-1].get("tool_calls")
        return not self.completion.strip() or not self.prompt.strip()

    def as_messages(self) -> tuple[Message, ...]:
        """The row as a conversation: its own, or one question with one answer. Plain text has none."""
        if self.messages is not None:
            return self.messages
        if self.text is not None:
            raise ValueError("plain text is not a conversation")
        return ({"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.completion})


@dataclass(frozen=True)
class Dataset:
    """Rows, divided: `train` to learn from, `select` to choose settings by, `held_out` for the verdict only."""

    examples: Examples
    train: list[Row] = field(default_factory=list)
    select: list[Row] = field(default_factory=list)
    held_out: list[Row] = field(default_factory=list)

    @property
    def labels(self) -> list[str] | None:
        """The label set when this is a classification."""
        return self.examples.labels

    def __len__(self) -> int:
        return len(self.train) + len(self.select) + len(self.held_out)


class LabelCount:
    """Tells, row by row, whether completions are labels: few, short and repeating.

    At most `MOST_LABELS` of at most `LONGEST_LABEL` characters on one line, with four rows a label on average.
    """

    def __init__(self) -> None:
        self.possible = True
        """Whether the rows so far may be a classification."""
        self._seen: Counter[str] = Counter()
        self._rows = 0

    def add(self, row: Row) -> None:
        """See the next row."""
        if not self.possible:
            return
        self._rows += 1
        word = row.completion
        if row.kind != "prompt_completion":
            self.possible = False
        elif word not in self._seen:
            if len(word) > LONGEST_LABEL or "\n" in word.strip() or len(self._seen) >= MOST_LABELS:
                self.possible = False
            elif word.strip():
                self._seen[word] = 1
        else:
            self._seen[word] += 1

    def labels(self) -> list[str] | None:
        """The sorted label set; None when this is no classification."""
        if not self.possible or not self._seen or len(self._seen) * 4 > self._rows:
            return None
        return sorted(self._seen)


def labels_of(rows: Iterable[Row]) -> list[str] | None:
    """The sorted label set when the completions are few, short and repeat (`LabelCount`); else None."""
    count = LabelCount()
    for row in rows:
        count.add(row)
        if not count.possible:
            break
    return count.labels()


def readable(messages: Sequence[Message]) -> str:
    """A conversation as text, one `role: content` paragraph a message; for keys and display, not for training."""
    return "\n\n".join(f"{message['role']}: {content_text(message)}" for message in messages)


def content_text(message: Message) -> str:
    """The text of one message; parts that are not text are left out."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if isinstance(part, Mapping) and "text" in part)
    return ""
