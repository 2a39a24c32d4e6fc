"""Files that are loaded in a way that can run code."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from allmend.planning.effects.arguments import is_exact
from allmend.planning.effects.targets import (
    host_of,
    is_url,
    plain,
)  # fmt: skip
from allmend.planning.evaluation.calls import segment
from allmend.planning.evaluation.values import (
    DERIVED,
    MISSING,
    Made,
    Unknown,
    has_hole,
    options,
)  # fmt: skip

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session
    from allmend.planning.tables import Row


def path(session: Session, call: Call, row: Row) -> None:
    """The file that is loaded, or the expression that gives it."""
    value, node = call.get(*row.arg)
    if value is MISSING:
        return
    for _, option in options(value):
        if isinstance(option, Made) and option.path.endswith(("open()", "open_url()")) and option.args:
            inner = option.args[0]
            for _, text in options(inner):
                if isinstance(text, str) and not has_hole(text):
                    _path_text(session, call, row, text, isinstance(node, ast.Call) and bool(node.args)
                               and isinstance(node.args[0], ast.Constant))  # fmt: skip
                else:
                    session.add(row.kind, text if isinstance(text, str | Unknown) else option,  # type: ignore[arg-type]
                                node=node.args[0] if isinstance(node, ast.Call) and node.args else node)  # fmt: skip
        elif isinstance(option, str) and not has_hole(option):
            if call.path.endswith("loads") and not is_url(option):
                session.record.add(row.kind, segment(session.python.place, node) if node is not None else option,  # type: ignore[arg-type]
                                   place=session.python.place, line=session.line, reason=None)  # fmt: skip
            else:
                _path_text(session, call, row, option, is_exact(option, node))
        else:
            session.add(row.kind, option, node=node)  # type: ignore[arg-type]


def _path_text(session: Session, call: Call, row: Row, text: str, exact: bool) -> None:
    clean = plain(text)
    if is_url(clean):
        if not exact and call.path.startswith(("torch", "pickle")):
            return  # One of several alternatives, and none that this function could open.
        session.add(row.kind, clean, literal=exact)  # type: ignore[arg-type]
        if call.path.startswith("pandas"):
            session.add("download", clean, literal=exact, detail={"host": host_of(clean)})
        return
    full = session.world.resolve(clean)
    session.add(row.kind, full, literal=exact and DERIVED not in text)  # type: ignore[arg-type]
