"""Ollama's Modelfile. Its templates are Go's; ours is derived from what the Jinja template really writes.

The template is asked for a few conversations with marks in the place of the texts; from these come the pieces that
stand around system, user and assistant. The pieces are used only if they build every one of the asked conversations
again, byte for byte; otherwise no TEMPLATE is written, and the release says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from allmend.data import Template
from allmend.errors import InputError

NAME = "Modelfile"
_S, _U, _A = "\u0001system\u0001", "\u0001user\u0001", "\u0001assistant\u0001"


@dataclass(frozen=True)
class Pieces:
    """What stands around the texts of a conversation."""

    before_system: str
    after_system: str
    before_user: str
    after_user: str
    before_answer: str
    after_answer: str
    space: str = ""
    """Between the prompt's end and the answer, where an answer stands in the conversation."""

    def render(self, messages: list[dict[str, str]], asks: bool) -> str:
        """The conversation as the pieces build it."""
        text = ""
        for message in messages:
            content = message["content"]
            if message["role"] == "system":
                text += self.before_system + content + self.after_system
            elif message["role"] == "user":
                text += self.before_user + content + self.after_user
            else:
                text += self.before_answer + self.space + content + self.after_answer
        return text + (self.before_answer if asks else "")

    def go(self) -> str:
        """As a template of Ollama."""
        # No `{{-`: it would eat the line ends that belong to the pieces.
        system = self.before_system + "{{ .Content }}" + self.after_system
        user = self.before_user + "{{ .Content }}" + self.after_user
        answer = self.before_answer + self.space + "{{ .Content }}" + self.after_answer
        return (
            f'{{{{ range .Messages }}}}{{{{ if eq .Role "system" }}}}{system}{{{{ else if eq .Role "user" }}}}{user}'
            f'{{{{ else if eq .Role "assistant" }}}}{answer}{{{{ end }}}}{{{{ end }}}}{self.before_answer}'
        )


def pieces(template: Template, bos_text: str, eos_text: str) -> Pieces | None:
    """The pieces of a template; None when it cannot be taken apart so."""

    def write(messages: list[dict[str, str]], asks: bool = False) -> str:
        text = template.render(messages, add_generation_prompt=asks, bos_token=bos_text, eos_token=eos_text)
        return text.removeprefix(bos_text)  # Ollama's runner adds it

    system, user = {"role": "system", "content": _S}, {"role": "user", "content": _U}
    answer = {"role": "assistant", "content": _A}
    try:
        one = write([user])
        asked = write([user], asks=True)
        answered = write([user, answer])
        before_user, after_user = one.split(_U)
        before_answer = asked.removeprefix(one)
        middle, after_answer = answered.removeprefix(one).split(_A)
        space = middle.removeprefix(before_answer)
        before_system, after_system = write([system, user]).removesuffix(one).split(_S)
        found = Pieces(before_system, after_system, before_user, after_user, before_answer, after_answer, space)
        other = {"role": "user", "content": "Again?"}
        for messages, asks in (
            ([user], True), ([system, user], True), ([user, answer, other], True),
            ([system, user, answer, other], True),
        ):  # fmt: skip
            if found.render(messages, asks) != write(messages, asks):
                return None
    except (ValueError, InputError):
        return None
    if any("{{" in part or '"""' in part for part in vars(found).values()):
        return None
    return found


def parameters(generation: dict[str, Any], stops: list[str]) -> list[str]:
    """PARAMETER lines: the makers' sampling, and what ends an answer."""
    names = {
        "temperature": "temperature",
        "top_k": "top_k",
        "top_p": "top_p",
        "min_p": "min_p",
        "repetition_penalty": "repeat_penalty",
    }
    lines = []
    if generation.get("do_sample") is not False:
        lines = [f"PARAMETER {to} {generation[name]}" for name, to in names.items() if generation.get(name) is not None]
    return lines + [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops if stop]


def modelfile(
    weights: str, found: Pieces | None, generation: dict[str, Any], stops: list[str], licence: str | None
) -> str:
    """The file's text; `weights` is a path beside it."""
    lines = [f"FROM ./{weights}"]
    if found is not None:
        lines.append(f'TEMPLATE """{found.go()}"""')
    else:
        lines.append("# No TEMPLATE: this chat template cannot be said in Ollama's language without changing it.")
    lines += parameters(generation, stops)
    if licence:
        lines.append(f'LICENSE """{licence}"""')
    return "\n".join(lines) + "\n"
