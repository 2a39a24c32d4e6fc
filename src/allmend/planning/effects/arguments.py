"""A row's argument of a call: its values, and the effect that each of them makes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from allmend.planning.effects.targets import (
    plain,
)  # fmt: skip
from allmend.planning.evaluation.calls import segment
from allmend.planning.evaluation.values import (
    DERIVED,
    MISSING,
    Class,
    Function,
    Made,
    Member,
    Object,
    Unknown,
    Value,
    has_hole,
    options,
)  # fmt: skip

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session
    from allmend.planning.tables import Row


def values_of(call: Call, row: Row) -> Iterator[tuple[Value, ast.expr | None]]:
    """The values of the row's argument: every alternative, and every item of a list."""
    value, node = call.get(*row.arg)
    if value is MISSING:
        return
    for _, option in options(value):
        if isinstance(option, list | tuple):
            for item in option[:40]:
                yield item, None
        elif isinstance(option, dict):
            for item in option.values():
                yield from ((part, None) for part in (item if isinstance(item, list | tuple) else [item]))
        else:
            yield option, node


def is_exact(value: Value, node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and not (isinstance(value, str) and DERIVED in value)


def detail_of(call: Call, row: Row, **more: Any) -> dict[str, Any]:
    detail = dict(more)
    for key, word in row.detail.items():
        if isinstance(word, str) and word.startswith("="):
            given = call.keywords.get(word[1:])
            if isinstance(given, str) and not has_hole(given):
                detail[key] = plain(given)
        else:
            detail[key] = word
    return detail


def list_effect(session: Session, call: Call, row: Row, text: Value, value: Value, node: ast.expr | None, prefix: str | None = None,
         kind: str | None = None, **more: Any) -> None:  # fmt: skip
    session.add(kind or row.kind, text, node=node, literal=is_exact(value, node),  # type: ignore[arg-type]
                prefix=row.prefix if prefix is None else prefix, detail=detail_of(call, row, **more))  # fmt: skip


def list_unknown(session: Session, call: Call, row: Row, value: Value, node: ast.expr | None) -> None:
    """The target cannot be worked out: its source expression stands for it."""
    if isinstance(value, Made):
        value = Unknown(segment(session.python.place, node) if node is not None else value.source, value.reason)
    if isinstance(value, Member):
        value = Unknown(segment(session.python.place, node) if node is not None else value.path, "it is an attribute of a value "
                        "that is made while the notebook runs")  # fmt: skip
    if isinstance(value, Class | Function | Object):
        return
    session.add(row.kind, value, node=node, detail=detail_of(call, row))  # type: ignore[arg-type]
