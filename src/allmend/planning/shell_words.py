"""Words of shell text: quoting, expansions, substitutions, braces."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from allmend.planning.evaluation.values import DERIVED, Either, Unknown, has_hole, options

if TYPE_CHECKING:
    from tree_sitter import Node

    from allmend.planning.shell import Shell

ROUNDS = 60
"""Rounds of a loop over literal words."""


@dataclass(slots=True)
class Command:
    """One simple command: its words with holes where they are not known."""

    words: list[str]
    literal: list[bool]
    """Whether each word was written as it is (no variable, no substitution)."""
    line: int
    cwd: str
    writes: list[str] = field(default_factory=list)
    """Files its output is redirected to."""
    stdin: str | None = None
    """Text it is given by a heredoc or here-string."""
    before: Command | None = None
    """The command whose output is piped into it."""
    environment: dict[str, str] = field(default_factory=dict)
    from_python: bool = False
    node_source: str | None = None
    """Where the words came from one Python expression: its source."""

    @property
    def program(self) -> str:
        """The first word."""
        return self.words[0] if self.words else ""

    def tail(self, start: int) -> Command:
        """The command that begins at word `start` (after `sudo`, `env`, `nohup`)."""
        return Command(
            self.words[start:], self.literal[start:], self.line, self.cwd, self.writes, self.stdin, self.before,
            self.environment, self.from_python, self.node_source,
        )  # fmt: skip


def words_of(shell: Shell, node: Node, data: bytes) -> list[tuple[str, bool]]:
    """The words of an argument: several when an unquoted variable or brace expands to several."""
    text, exact = text_of(shell, node, data)
    if (
        not exact
        and node.type in ("simple_expansion", "expansion", "command_substitution")
        and not has_hole(text)
        and " " in text.strip()
    ):
        return [(DERIVED + piece, False) for piece in text.replace(DERIVED, "").split()]
    if node.type in ("concatenation", "word") and "{" in text and "," in text and "}" in text and node.type != "string":
        pieces = braces(text)
        if len(pieces) > 1:
            return [(piece, exact) for piece in pieces]
    return [(text, exact)]


def text_of(shell: Shell, node: Node, data: bytes) -> tuple[str, bool]:
    """One word's text and whether it is literal."""
    raw = data[node.start_byte : node.end_byte].decode("utf-8", "replace")
    kind = node.type
    if kind in ("word", "number", "variable_name", "test_operator", "special_variable_name", "file_descriptor"):
        text = re.sub(r"\\\n\s*", "", raw)
        return (re.sub(r"\\(.)", r"\1", text) if "\\" in text else text), DERIVED not in raw
    if kind == "raw_string":
        return raw[1:-1], DERIVED not in raw
    if kind in ("string", "translated_string"):
        return _string(shell, node, data)
    if kind == "ansi_c_string":
        return raw[2:-1].replace("\\n", "\n").replace("\\t", "\t"), True
    if kind in ("simple_expansion", "expansion"):
        return _expansion(shell, node, raw, data), False
    if kind in ("command_substitution", "process_substitution"):
        for child in node.named_children:
            _nested(shell, child, data)
        return _substitution(shell, raw), False
    if kind in ("concatenation", "command_name", "array"):
        parts, exact = [], True
        for child in node.children:
            if not child.is_named and kind == "array":
                continue
            text, one = text_of(shell, child, data)
            parts.append(text)
            exact = exact and one
        return (" " if kind == "array" else "").join(parts), exact
    if kind == "arithmetic_expansion":
        return shell.session.holes.mark(Unknown(raw, "it is arithmetic of the shell")), False
    return re.sub(r"\\\n\s*", "", raw), DERIVED not in raw


def braces(word: str) -> list[str]:
    """What a word with braces stands for: `{1..3}` and `{a,b}`, once."""
    match = re.fullmatch(r"(.*)\{(-?\d{1,4})\.\.(-?\d{1,4})\}(.*)", word)
    if match:
        low, high = int(match[2]), int(match[3])
        return [f"{match[1]}{n}{match[4]}" for n in range(low, high + 1)][:ROUNDS]
    match = re.fullmatch(r"([^{}]*)\{([^{}]*,[^{}]*)\}([^{}]*)", word)
    if match:
        return [f"{match[1]}{piece}{match[3]}" for piece in match[2].split(",")][:ROUNDS]
    return [word]


def _substitution(shell: Shell, raw: str) -> str:
    inner = raw.strip("`").removeprefix("$(").removesuffix(")").strip()
    if inner == "pwd":
        return DERIVED + (shell.cwd or ".")
    match = re.fullmatch(r"seq\s+(\d{1,5})(?:\s+(\d{1,5}))?", inner)
    if match:
        low, high = (int(match[1]), int(match[2])) if match[2] else (1, int(match[1]))
        return DERIVED + " ".join(str(number) for number in range(low, min(high, low + ROUNDS - 1) + 1))
    match = re.fullmatch(r"echo\s+['\"]?([\w./:@=%+-]+)['\"]?", inner)
    if match:
        return DERIVED + match[1]
    return shell.session.holes.mark(Unknown(shell.session.holes.shown(raw)[:120], "it is the output of a command"))


def _nested(shell: Shell, node: Node, data: bytes) -> None:
    saved = (shell.cwd, shell.last)
    shell.last = None
    shell.node(node, data)
    shell.cwd, shell.last = saved


def _string(shell: Shell, node: Node, data: bytes) -> tuple[str, bool]:
    parts: list[str] = []
    exact = True
    at = node.start_byte + (2 if node.type == "translated_string" else 1)
    for child in node.named_children:
        if child.type == "string_content":
            continue
        parts.append(data[at : child.start_byte].decode("utf-8", "replace"))
        text, one = text_of(shell, child, data)
        parts.append(text)
        exact = exact and one
        at = child.end_byte
    parts.append(data[at : max(at, node.end_byte - 1)].decode("utf-8", "replace"))
    text = "".join(parts)
    return re.sub(r'\\(["\\$`\n])', lambda m: "" if m[1] == "\n" else m[1], text), exact and DERIVED not in text


def _expansion(shell: Shell, node: Node, raw: str, data: bytes) -> str:
    match = re.match(r"\$\{?#?([A-Za-z_]\w*|\d+|[@*#?!$-])", raw)
    name = match[1] if match else ""
    if name.isdigit() and int(name) and int(name) <= len(shell.positional):
        return DERIVED + shell.positional[int(name) - 1]
    if name in ("@", "*") and shell.positional:
        return DERIVED + " ".join(shell.positional)
    value = shell.variables.get(name)
    if value is None:
        value = shell.session.shell_value(name)
    if name == "PWD" and value is None:
        value = shell.cwd or "."
    if value is not None:
        text = options(value)[0][1] if isinstance(value, Either) else value
        text = shell.session.holes.text(text)
        cut = re.match(r"\$\{\w+(##?|%%?)(.+)\}$", raw)
        if cut and cut[2] in ("*/",):
            text = text.rsplit("/", 1)[-1]
        return DERIVED + text
    default = re.match(r"\$\{\w+:?[-=](.*)\}$", raw, re.DOTALL)
    if default:
        return DERIVED + default[1].strip("\"'")
    if name == "HOME":
        return "~"
    return shell.session.holes.mark(Unknown(raw, f"the shell variable {name or raw} is not set in the notebook"))
