"""Parsing Python that may be broken or old: `ast` first, then piece by piece with tree-sitter's grammar.

A cell in Python 2, or with one wrong line, still says what it does. Whatever cannot be read is named.
"""

from __future__ import annotations

import ast
import re
import warnings
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

MAXIMUM_PIECES = 3000
_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError)


@cache
def parser() -> Parser:
    """The Python parser of tree-sitter, loaded once."""
    import tree_sitter
    import tree_sitter_python

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_python.language()))


def parse(text: str) -> tuple[list[ast.stmt], list[str]]:
    """The statements of `text` and, in words, what could not be read."""
    tree = _try(text)
    if tree is not None:
        return tree, []
    if text[:1].isspace():
        dedented = _dedent(text)
        tree = _try(dedented)
        if tree is not None:
            return tree, []
    if "\t" in text:
        tree = _try(text.expandtabs(8))
        if tree is not None:
            return tree, []
    if len(text) > 300_000:
        return [], ["the cell is not valid Python and too long to be read piece by piece"]
    return _pieces(text)


def _try(text: str) -> list[ast.stmt] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text).body
    except _ERRORS:
        return None


def _dedent(text: str) -> str:
    """Take the first line's indentation off every line; IPython does the same."""
    match = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    indent = match[1] if match else ""
    return "\n".join(line.removeprefix(indent) for line in text.split("\n"))


class _Salvage:
    def __init__(self, text: str) -> None:
        self.data = text.encode("utf-8", "replace")
        self.statements: list[ast.stmt] = []
        self.lost: list[tuple[int, int]] = []
        self.count = 0

    def take(self, node: Node, depth: int = 0) -> None:
        """Add what can be read of `node`."""
        self.count += 1
        if self.count > MAXIMUM_PIECES or depth > 60:
            self.lost.append((node.start_point[0] + 1, node.end_point[0] + 1))
            return
        kind = node.type
        if kind == "comment":
            return
        if kind == "print_statement":
            for child in node.named_children:
                self.take(child, depth + 1)
            return
        if kind not in ("module", "block") and self._parsed(node):
            return
        children = [child for child in node.named_children if child.type != "comment"]
        if not children or kind in ("identifier", "string"):
            if kind == "ERROR" or (
                depth and not children and kind not in ("identifier", "string", "integer", "ellipsis")
            ):
                self.lost.append((node.start_point[0] + 1, node.end_point[0] + 1))
            return
        if kind == "ERROR":
            self.lost.append((node.start_point[0] + 1, node.end_point[0] + 1))
        for child in children:
            self.take(child, depth + 1)

    def _parsed(self, node: Node) -> bool:
        text = self.data[node.start_byte : node.end_byte].decode("utf-8", "replace")
        if "\n" in text and node.start_point[1]:
            text = " " * node.start_point[1] + text
            text = "\n".join([""] * 0 + text.split("\n"))
            text = "if 1:\n" + text
            extra = 1
        else:
            extra = 0
        body = _try(text)
        if body is None:
            return False
        if extra and len(body) == 1 and isinstance(body[0], ast.If):
            body = body[0].body
        shift = node.start_point[0] - extra
        columns = 0 if extra else node.start_point[1]
        for statement in body:
            for inner in ast.walk(statement):
                if hasattr(inner, "lineno"):
                    if columns and inner.lineno == 1:
                        inner.col_offset += columns  # type: ignore[attr-defined]
                        if getattr(inner, "end_lineno", 0) == 1:
                            inner.end_col_offset += columns  # type: ignore[attr-defined]
                    inner.lineno += shift
                    if getattr(inner, "end_lineno", None):
                        inner.end_lineno += shift  # type: ignore[attr-defined]
            self.statements.append(statement)
        return True


def _pieces(text: str) -> tuple[list[ast.stmt], list[str]]:
    salvage = _Salvage(text)
    salvage.take(parser().parse(salvage.data).root_node)
    lines = text.split("\n")
    problems = []
    for first, last in sorted(set(salvage.lost))[:5]:
        shown = lines[first - 1].strip()[:80] if first <= len(lines) else ""
        where = f"line {first}" if first == last else f"lines {first} to {last}"
        problems.append(f"{where} is not Python that can be read: {shown}")
    if len(set(salvage.lost)) > 5:
        problems.append(f"{len(set(salvage.lost)) - 5} more places are not Python that can be read")
    return salvage.statements, problems
