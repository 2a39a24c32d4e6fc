"""Data sets and models of services with names of their own: Kaggle, Roboflow, library constants."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allmend.planning.effects.arguments import detail_of, list_effect, list_unknown, values_of
from allmend.planning.effects.targets import (
    host_of,
    is_url,
    plain,
)  # fmt: skip
from allmend.planning.evaluation.values import (
    DERIVED,
    Made,
    Member,
    Symbol,
    Value,
    has_hole,
)  # fmt: skip

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session
    from allmend.planning.tables import Row


def kaggle(session: Session, call: Call, row: Row) -> None:
    """A Kaggle handle, or the page's URL."""
    for value, node in values_of(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = plain(value).rstrip("/")
            match = re.search(r"kaggle\.com/(?:datasets/|c/|competitions/)?([\w-]+(?:/[\w.-]+)?)", text)
            list_effect(session, call, row, match[1] if match else text, value, node)
        elif not isinstance(value, Symbol):
            list_unknown(session, call, row, value, node)


def roboflow(session: Session, call: Call, row: Row) -> None:
    """`rf.workspace(w).project(p).version(n).download(f)`."""
    parts: dict[str, Value] = {}
    value: Value = call.receiver
    for _ in range(8):
        if not isinstance(value, Made):
            break
        last = value.path.removesuffix("()").rpartition(".")[2]
        if last in ("workspace", "project", "version"):
            parts.setdefault(last, value.args[0] if value.args else None)
        value = value.receiver
    if "version" not in parts and "project" not in parts:
        return
    texts = [session.holes.text(session.python.settle(parts[k], call.node)) for k in ("workspace", "project", "version")
             if parts.get(k) is not None]  # fmt: skip
    session.add("dataset", "/".join(texts), prefix=row.prefix, literal=not any(DERIVED in t for t in texts))


def roboflow_url(session: Session, call: Call, row: Row) -> None:
    """A page of Roboflow's."""
    for value, node in values_of(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = re.sub(r"^https?://[^/]+/", "", plain(value)).replace("/dataset/", "/").strip("/")
            list_effect(session, call, row, text, value, node)
        else:
            list_unknown(session, call, row, value, node)


def last(session: Session, call: Call, row: Row) -> None:
    """The called name itself."""
    word = call.path.rpartition(".")[2]
    session.add(row.kind, word, literal=True, prefix=row.prefix, detail=detail_of(call, row))  # type: ignore[arg-type]


def last_fetch(session: Session, call: Call, row: Row) -> None:
    """`fetch_X` names X."""
    word = call.path.rpartition(".")[2].removeprefix("fetch_")
    if word != "openml":
        session.add("dataset", word, literal=True, prefix=row.prefix)


def before_last(session: Session, call: Call, row: Row) -> None:
    """The module that the function stands in."""
    word = call.path.split(".")[-2] if "." in call.path else call.path
    session.add(row.kind, word, literal=True, prefix=row.prefix)  # type: ignore[arg-type]


def last_of_symbol(session: Session, call: Call, row: Row) -> None:
    """A constant of the library: `URLs.PETS`."""
    for value, node in values_of(call, row):
        if isinstance(value, Symbol | Member):
            session.add(row.kind, value.path.rpartition(".")[2], literal=True, prefix=row.prefix)  # type: ignore[arg-type]
        elif isinstance(value, str) and is_url(value):
            list_effect(session, call, row, plain(value), value, node, prefix="", kind="download", host=host_of(value))
        elif isinstance(value, str) and not has_hole(value):
            list_effect(session, call, row, plain(value), value, node)
