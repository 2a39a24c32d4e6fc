"""Chat templates: how a conversation becomes the text that a model reads.

A template is a named Jinja text with a digest. It is rendered in Jinja's immutable sandbox with the settings and
names that transformers gives its templates (`apply_chat_template`), so that a tokenizer's own template gives the
same text here; a test holds the two equal. Templates come from model folders, so size and time of a rendering
are bounded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from allmend.data.jinja import compiled, rendered
from allmend.data.rows import Message, Row
from allmend.errors import InputError, UsageError, nearest

FILE_NAME = "chat_template.jinja"
"""The file beside an adapter or model, as transformers names it."""

PLAIN_NAME = "allmend-plain/1"

# The prompt ends without the space: most tokenizers put it at the front of the answer's first word, and a prompt that
# ends in a lone space asks a base model for something it never saw.
_PLAIN_TEXT = """\
{%- set names = {"system": "System", "developer": "System", "user": "User", "tool": "Result"} -%}
{%- for message in messages -%}
{%- if message["content"] is string -%}{%- set content = message["content"] -%}
{%- elif not message["content"] -%}
{%- set content = message["tool_calls"] | tojson if message["tool_calls"] else "" -%}
{%- else -%}{%- set content = message["content"] | map(attribute="text") | join("\\n") -%}{%- endif -%}
{%- if message["role"] == "assistant" -%}
{{- "Assistant:" + " " + content + eos_token + "\\n" -}}
{%- else -%}
{{- names[message["role"]] + ": " + content + "\\n" -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "Assistant:" -}}{%- endif -%}
"""


@dataclass(frozen=True)
class Template:
    """A named chat template."""

    name: str
    """`allmend-plain/1`, or `model` for the model's own, or the file it was read from."""
    text: str
    """Jinja."""

    @property
    def digest(self) -> str:
        """SHA-256 of the Jinja text, in hex."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def is_plain(self) -> bool:
        """Whether this is allmend's template for models without one."""
        return self.text == _PLAIN_TEXT

    @property
    def writes_tools(self) -> bool:
        """Whether the text speaks of tools at all; one that does not leaves their descriptions out."""
        return "tools" in self.text

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        bos_token: str = "",
        eos_token: str = "",
        **more: Any,
    ) -> str:
        """The conversation as text; raises `InputError` with the template's own words when it refuses one."""
        import jinja2

        values = {
            **{key: _plain(value) for key, value in more.items()},
            "messages": _as_handed_over(_plain(list(messages))),
            "tools": _plain(list(tools)) if tools is not None else None,
            "documents": _plain(list(documents)) if documents is not None else None,
            "add_generation_prompt": add_generation_prompt,
            "bos_token": bos_token,
            "eos_token": eos_token,
        }
        try:
            return rendered(self.text, values, self.name)
        except jinja2.TemplateError as error:
            words = str(error) or type(error).__name__
            raise InputError(f"the chat template refused the conversation: {words}", where=self.name) from error
        except (
            TypeError,
            ValueError,
            KeyError,
            AttributeError,
            OverflowError,
            RecursionError,
            MemoryError,
        ) as error:
            raise InputError(f"the chat template failed: {error}", where=self.name) from error

    def parts(self, row: Row, *, bos_token: str = "", eos_token: str = "") -> tuple[str, str]:
        """A row as (prompt text, completion text with its end): joined they are the rendered conversation.

        Of a conversation only the last answer is the completion. Raises `InputError` naming the row when the
        template does not continue its own generation prompt."""
        messages = row.as_messages()
        render = partial(self.render, tools=row.tools, bos_token=bos_token, eos_token=eos_token)
        prompt = render(messages[:-1], add_generation_prompt=True)
        full = render(messages)
        if not full.startswith(prompt):
            raise InputError(
                "the chat template does not continue its own prompt, so where the answer starts is unknown",
                where=row.place or self.name,
            )
        return prompt, full[len(prompt) :]

    def write(self, folder: Path) -> Path:
        """Write `chat_template.jinja` into `folder`, whole or not at all; returns its path."""
        target = folder / FILE_NAME
        scratch = folder / f".{FILE_NAME}.{os.getpid()}"
        scratch.write_text(self.text, encoding="utf-8", newline="\n")
        scratch.replace(target)
        return target


PLAIN = Template(PLAIN_NAME, _PLAIN_TEXT)
"""For models without a template: `User: …`, `Assistant: …`, the model's end-of-text mark after each answer."""

TEMPLATES = {PLAIN.name: PLAIN}
"""Templates known by name."""


def template(name: str) -> Template:
    """A template by name, or a `.jinja` file's; raises `UsageError` naming the known ones."""
    if name in TEMPLATES:
        return TEMPLATES[name]
    if name.endswith((".jinja", ".j2")) and Path(name).is_file():
        return read(Path(name))
    known = ", ".join(sorted(TEMPLATES))
    hint = nearest(name, TEMPLATES) or f"Known: {known}."
    raise UsageError(f"there is no chat template {name!r}", where="--template", hint=f"{hint} Or a .jinja file.")


def read(path: Path) -> Template:
    """The template in a file or in `chat_template.jinja` of a folder; checked to be Jinja."""
    file = path / FILE_NAME if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the chat template cannot be read: {error}", where=str(file)) from None
    found = PLAIN if text == PLAIN.text else Template(str(file), text)
    return checked(found)


def of_tokenizer(tokenizer: Any) -> Template:
    """The model's own template, or the plain one when the tokenizer has none."""
    text = getattr(tokenizer, "chat_template", None)
    if isinstance(text, Mapping):
        text = text.get("default")
    if not isinstance(text, str) or not text.strip():
        return PLAIN
    return PLAIN if text == PLAIN.text else checked(Template("model", text))


def checked(found: Template) -> Template:
    """`found`, if it is Jinja; raises `InputError` with the line that is not."""
    import jinja2

    try:
        compiled(found.text)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"the chat template is not Jinja: {error.message}",
                         where=f"{found.name}:{error.lineno}") from None  # fmt: skip
    return found


def _plain(value: Any) -> Any:
    """`value` as JSON types only: a template must not reach the methods of anything else."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {_plain(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)


def _as_handed_over(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as transformers hands them to templates: without empty keys, reasoning under every name for it."""
    messages = [{key: value for key, value in message.items() if value is not None} for message in messages]
    for message in messages:
        given = next((message[name] for name in ("reasoning_content", "thinking", "reasoning")
                      if message.get(name) is not None), None)  # fmt: skip
        if given is not None:
            message["reasoning_content"] = given
            message.setdefault("thinking", given)
    return messages
