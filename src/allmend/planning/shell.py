"""Following shell text with tree-sitter's bash grammar: lists, pipes, subshells, loops, heredocs, variables, `cd`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from allmend.planning.evaluation.values import DERIVED, Unknown
from allmend.planning.shell_words import ROUNDS, Command, braces, text_of, words_of

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

    from allmend.planning.session import Session

DEPTH = 60
_ADJACENT = re.compile(r"(?<=[^\s$'\"\\(|&;<>=])\$([A-Za-z_]\w*|\d)(?=[/.\-:+@%\\])")
"""The grammar ends a word at the second of two expansions with text behind it (`$A/$B.c`); with braces it does not."""


@cache
def parser() -> Parser:
    """The bash parser, loaded once."""
    import tree_sitter
    import tree_sitter_bash

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


class Shell:
    """Runs over one piece of shell text. Its `cd` and variables last as long as it does."""

    def __init__(self, session: Session, *, cwd: str, from_python: bool = False, first_line: int = 1) -> None:
        self.session = session
        self.cwd = cwd
        self.variables: dict[str, Any] = {}
        self.positional: list[str] = []
        self.last: Command | None = None
        """The command whose output is piped into the next one."""
        self.functions: dict[str, tuple[Node, bytes]] = {}
        self.from_python = from_python
        self.first_line = first_line
        self.latest: Command | None = None
        self._extra: list[tuple[str, bool]] | None = None
        self.depth = 0
        self.node_source: str | None = None
        self.one_line = False
        """The text was worked out and stands nowhere as it is: every command counts as the line that runs it."""

    def run(self, text: str) -> None:
        """Follow `text`."""
        if len(text) > 400_000:
            self.session.unread("a piece of shell text is longer than 400,000 characters")
            text = text[:400_000]
        data = _ADJACENT.sub(r"${\1}", text).encode("utf-8", "replace")
        self.node(parser().parse(data).root_node, data)

    # -- structure ----------------------------------------------------------------------------------------------------

    def node(self, node: Node, data: bytes, stdin: str | None = None, writes: list[str] | None = None) -> None:
        """Follow one node of the grammar.

        Args:
            data: the text that the node's places are of.
            stdin: text that it is given by a redirection around it.
            writes: files that a redirection around it sends its output to.
        """
        if self.depth > DEPTH or self.session.python.budget <= 0:
            return
        self.depth += 1
        self.session.python.budget -= 1
        try:
            handler = _HANDLERS.get(node.type)
            if handler is not None:
                handler(self, node, data, stdin, writes)
            elif node.is_named and node.type not in _SILENT:
                for child in node.named_children:
                    self.node(child, data, stdin, writes)
        finally:
            self.depth -= 1

    def _line(self, node: Node) -> int:
        """Where `node` stands in the cell."""
        return self.first_line if self.one_line else node.start_point[0] + self.first_line

    def _command(self, node: Node, data: bytes, stdin: str | None, writes: list[str] | None) -> None:
        words: list[str] = []
        literal: list[bool] = []
        environment: dict[str, str] = {}
        line = self._line(node)
        for child in node.children:
            kind = child.type
            if kind == "variable_assignment" and not words:
                name, value = self._assignment(child, data)
                environment[name] = value
            elif kind == "herestring_redirect":
                inner = child.named_children
                stdin = text_of(self, inner[0], data)[0] if inner else None
            elif kind in ("file_redirect", "heredoc_redirect"):
                more = self._redirect(child, data)
                writes = [*(writes or []), *more[0]]
                stdin = more[1] if more[1] is not None else stdin
                self._extend(words, literal, more[2])
            elif kind == "command_name" and child.named_children:
                self._extend(words, literal, words_of(self, child.named_children[0], data))
            elif child.is_named and kind != "comment":
                self._extend(words, literal, words_of(self, child, data))
        if self._extra:
            self._extend(words, literal, self._extra)
            self._extra = None
        self._emit(Command(words, literal, line, self.cwd, writes or [], stdin, None, environment, self.from_python,
                           self.node_source))  # fmt: skip

    @staticmethod
    def _extend(words: list[str], literal: list[bool], found: list[tuple[str, bool]]) -> None:
        for word, exact in found:
            words.append(word)
            literal.append(exact)

    def _emit(self, command: Command) -> None:
        command.words = [word for word in command.words if word != DERIVED]
        if not command.words:
            if command.environment:
                self.variables.update(command.environment)
            return
        command.literal = (command.literal + [False] * len(command.words))[: len(command.words)]
        command.before = self.last
        self.latest = command
        name = command.words[0].replace(DERIVED, "")
        if name in self.functions and self.depth < DEPTH - 10:
            body, body_data = self.functions[name]
            saved, self.positional = self.positional, [word.replace(DERIVED, "") for word in command.words[1:]]
            self.node(body, body_data)
            self.positional = saved
            return
        if name in ("cd", "pushd"):
            self._change(command)
            return
        self.session.observer.on_command(command, self)

    def _change(self, command: Command) -> None:
        targets = [word for word in command.words[1:] if not word.startswith("-") or word == "-"]
        if not targets:
            self.cwd = "~" if len(command.words) == 1 else self.cwd
        elif targets[0] != "-":
            self.cwd = self.session.world.resolve(targets[0].replace(DERIVED, ""), self.cwd)
            self.session.observer.on_change_directory(self.cwd, command.line)

    def _redirected(self, node: Node, data: bytes, stdin: str | None, writes: list[str] | None) -> None:
        body = node.child_by_field_name("body")
        found: list[str] = list(writes or [])
        extra: list[tuple[str, bool]] = []
        after: list[Node] = []
        for child in node.children:
            if child.type in ("file_redirect", "heredoc_redirect", "herestring_redirect"):
                if child.type == "herestring_redirect":
                    stdin = text_of(self, child.named_children[0], data)[0] if child.named_children else stdin
                    continue
                outs, given, words = self._redirect(child, data)
                found.extend(outs)
                stdin = given if given is not None else stdin
                extra.extend(words)
                # `cat <<EOF | python` and `<<EOF && next` hang the rest below the heredoc.
                after.extend(c for c in child.named_children if c.type in ("pipeline", "list", "command"))
        if body is not None:
            if extra and body.type == "command":
                self._extra = extra
            before = self.last
            self.node(body, data, stdin, found)
            if after and after[0].type == "pipeline":
                self.last = self.latest
            for piece in after:
                self.node(piece, data)
            self.last = before
        elif found:
            self._emit(Command([":"], [True], self._line(node), self.cwd, found, stdin))

    def _redirect(self, node: Node, data: bytes) -> tuple[list[str], str | None, list[tuple[str, bool]]]:
        """What a redirection writes to, gives as input, and the words that the grammar hung below it."""
        if node.type == "heredoc_redirect":
            return self._heredoc(node, data)
        signs = {child.type for child in node.children if not child.is_named}
        targets = [child for child in node.named_children if child.type != "file_descriptor"]
        extra = [word for child in targets[1:] for word in words_of(self, child, data)]
        if not targets:
            return [], None, extra
        if signs & {">", ">>", "&>", "&>>", ">|"}:
            return [text_of(self, targets[0], data)[0]], None, extra
        return [], None, extra

    def _heredoc(self, node: Node, data: bytes) -> tuple[list[str], str | None, list[tuple[str, bool]]]:
        writes: list[str] = []
        text = None
        for child in node.named_children:
            if child.type == "file_redirect":
                writes.extend(self._redirect(child, data)[0])
            elif child.type == "heredoc_body":
                text = self._expanded(child, data)
        return writes, text or "", []

    def _expanded(self, node: Node, data: bytes) -> str:
        """Text in which the grammar found expansions, with those filled in."""
        parts: list[str] = []
        at = node.start_byte
        for child in node.named_children:
            if child.type in ("simple_expansion", "expansion", "command_substitution"):
                parts.append(data[at : child.start_byte].decode("utf-8", "replace"))
                parts.append(text_of(self, child, data)[0].replace(DERIVED, ""))
                at = child.end_byte
        parts.append(data[at : node.end_byte].decode("utf-8", "replace"))
        return "".join(parts)

    def _pipeline(self, node: Node, data: bytes, stdin: str | None, writes: list[str] | None) -> None:
        outer = self.last
        for place, child in enumerate(node.named_children):
            self.node(
                child, data, stdin if place == 0 else None, writes if place == len(node.named_children) - 1 else None
            )
            self.last = self.latest
        self.last = outer

    def _subshell(self, node: Node, data: bytes, stdin: str | None, writes: list[str] | None) -> None:
        cwd, variables = self.cwd, dict(self.variables)
        for child in node.named_children:
            self.node(child, data, stdin, writes)
        self.cwd, self.variables = cwd, variables

    def _for(self, node: Node, data: bytes, stdin: str | None, writes: list[str] | None) -> None:
        variable = node.child_by_field_name("variable")
        body = node.child_by_field_name("body")
        if variable is None or body is None:
            return
        name = data[variable.start_byte : variable.end_byte].decode("utf-8", "replace")
        values: list[str] = []
        for value in node.children_by_field_name("value"):
            for word, _ in words_of(self, value, data):
                values.extend(braces(word))
        unknown = self.session.holes.mark(Unknown(f"${name}", "it changes in a loop of the shell"))
        if not values or any(sign in word for word in values for sign in "*?"):
            values = [unknown]
        for text in values[:ROUNDS]:
            self.variables[name] = text.replace(DERIVED, "")
            self.node(body, data)

    def _while(self, node: Node, data: bytes, stdin: str | None, writes: list[str] | None) -> None:
        for child in node.named_children:
            self.node(child, data)

    def _function(self, node: Node, data: bytes, stdin: str | None, writes: list[str] | None) -> None:
        name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
        if name is not None and body is not None:
            self.functions[data[name.start_byte : name.end_byte].decode("utf-8", "replace")] = (body, data)

    def _set(self, node: Node, data: bytes, stdin: str | None, writes: list[str] | None) -> None:
        name, value = self._assignment(node, data)
        self.variables[name] = value
        self.session.observer.on_shell_variable(name, value, self._line(node))

    def _declaration(self, node: Node, data: bytes, stdin: str | None, writes: list[str] | None) -> None:
        for child in node.named_children:
            if child.type == "variable_assignment":
                self._set(child, data, None, None)

    def _assignment(self, node: Node, data: bytes) -> tuple[str, str]:
        name = node.child_by_field_name("name")
        value = node.child_by_field_name("value")
        text = data[name.start_byte : name.end_byte].decode("utf-8", "replace") if name is not None else "_"
        return text, text_of(self, value, data)[0].replace(DERIVED, "") if value is not None else ""


def _skip(shell: Shell, node: Any, data: bytes, stdin: str | None, writes: list[str] | None) -> None:
    """Nothing runs here."""


_SILENT = frozenset({"comment", "heredoc_body", "word", "string", "raw_string", "number", "variable_name"})
_HANDLERS: dict[str, Callable[..., None]] = {
    "command": Shell._command, "redirected_statement": Shell._redirected, "pipeline": Shell._pipeline,
    "subshell": Shell._subshell, "for_statement": Shell._for, "while_statement": Shell._while,
    "function_definition": Shell._function, "variable_assignment": Shell._set,
    "declaration_command": Shell._declaration, "comment": _skip,
}  # fmt: skip
