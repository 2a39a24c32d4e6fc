"""One call as the tables see it, and the source text of a node."""

from __future__ import annotations

import ast

from allmend.planning.evaluation.values import (
    MISSING,
    Place,
    Value,
)  # fmt: skip


class Call:
    """One call as the tables see it: a dotted path and its arguments, values and source nodes."""

    __slots__ = ("args", "keywords", "naming", "node", "path", "receiver")

    def __init__(
        self,
        path: str,
        node: ast.Call,
        args: list[Value],
        keywords: dict[str, Value],
        receiver: Value,
        naming: str | None,
    ) -> None:
        self.path = path
        self.node = node
        self.args = args
        self.keywords = keywords
        self.receiver = receiver
        self.naming = naming
        """The name that the result is assigned to, if it is."""

    def given(self, args: list[Value]) -> Call:
        """The same call with other values for its positional arguments."""
        return Call(self.path, self.node, args, self.keywords, self.receiver, self.naming)

    def get(self, *places: int | str) -> tuple[Value, ast.expr | None]:
        """The first given argument of `places` (positions and keywords): its value and its node."""
        for place in places:
            if isinstance(place, int):
                if place < len(self.args):
                    nodes = self.node.args
                    node = nodes[place] if place < len(nodes) and not isinstance(nodes[place], ast.Starred) else None
                    return self.args[place], node
            elif place in self.keywords:
                return self.keywords[place], next((k.value for k in self.node.keywords if k.arg == place), None)
        return MISSING, None


def segment(place: Place, node: ast.AST) -> str:
    """The source text of `node`, on one line, shortened."""
    line, end_line = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
    lines = place.lines
    if not 0 < line <= len(lines) or not end_line:
        try:
            return ast.unparse(node)[:200]
        except (ValueError, RecursionError, AttributeError):
            return "?"
    start, end = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", 0)
    if line == end_line:
        text = lines[line - 1]
        piece = text[start:end] if text.isascii() else text.encode()[start:end].decode("utf-8", "replace")
    else:
        first = lines[line - 1].encode()[start:].decode("utf-8", "replace")
        last = lines[min(end_line, len(lines)) - 1].encode()[:end].decode("utf-8", "replace")
        piece = " ".join([first, *(text.strip() for text in lines[line : min(end_line, line + 12) - 1]), last.strip()])
    return piece.strip()[:300]
