"""Library calls that the tables describe."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from allmend.planning.effects import hubs, readers
from allmend.planning.evaluation.values import DERIVED, MISSING, Unknown, Value, has_hole, options, strings

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session
    from allmend.planning.tables import Row


def on_call(session: Session, call: Call) -> None:
    """List what the tables say of `call`."""
    found = session.tables.rows(call.path)
    for row in found:
        if _holds(session, row, call):
            readers.READERS.get(row.how, readers.name)(session, call, row)
    foreign = session.facts.get("foreign")
    if foreign and not found and call.path.partition(".")[0] in foreign:
        _own_loader(session, call)
    if call.keywords.get("trust_remote_code") is True:
        _remote_code(session, call)


_LOADER = re.compile(r"load|restore|resume|init_model|from_pretrained|get_model|build_model", re.IGNORECASE)
_PICKLES = re.compile(r"\.(?:pt|pth|pkl|pickle|ckpt|pth\.tar|t7|joblib|bin)$", re.IGNORECASE)


def _own_loader(session: Session, call: Call) -> None:
    """A loader of a clone's own that is given a file of a kind that is read by pickle."""
    if not _LOADER.search(call.path.replace("()", "").rpartition(".")[2]):
        return
    given: list[tuple[Value, ast.expr | None]] = list(zip(call.args, call.node.args, strict=False))
    given.extend((call.keywords.get(word.arg), word.value) for word in call.node.keywords if word.arg)
    for value, node in given:
        for text in strings(value):
            if not has_hole(text) and _PICKLES.search(text) and "://" not in text:
                full = session.world.resolve(text)
                session.add("unpickle", full, literal=isinstance(node, ast.Constant) and DERIVED not in full)


def _holds(session: Session, row: Row, call: Call) -> bool:
    for key, wanted in row.when.items():
        if not _matches(_given(call, key), wanted, otherwise=False):
            return False
    return all(
        not _matches(_given(call, key), refused, otherwise=False, sure=True) for key, refused in row.unless.items()
    )


def _given(call: Call, key: str) -> Value:
    """A keyword's value; `name|3` also takes position 3."""
    name, _, place = key.partition("|")
    if name in call.keywords:
        return call.keywords[name]
    if place and int(place) < len(call.args):
        return call.args[int(place)]
    return MISSING


def _matches(value: Value, wanted: list[Any], *, otherwise: bool, sure: bool = False) -> bool:
    if value is MISSING:
        return otherwise
    for _, option in options(value):
        if isinstance(option, str) and not has_hole(option):
            word: Any = option.replace(DERIVED, "").lower()
        else:
            word = option
        if wanted == ["*"]:
            if word not in (None, False, "none"):
                return True
        elif isinstance(word, str | bool | int | float):
            if any(word == item and isinstance(word, bool) == isinstance(item, bool) for item in wanted):
                return True
        elif isinstance(word, list | tuple):
            if any(item in wanted for item in word if isinstance(item, str)):
                return True
        elif word is None:
            if "none" in wanted:
                return True
        elif not sure:
            return True
    return False


def _remote_code(session: Session, call: Call) -> None:
    value, node = call.get(
        0, "pretrained_model_name_or_path", "model", "model_name", "repo_id", "path", "model_id", "model_name_or_path"
    )
    pinned = isinstance(call.keywords.get("revision"), str)
    if call.path.endswith("pipeline"):
        value, node = call.get("model", 1)
    for _, option in options(value):
        if isinstance(option, str):
            text = option.replace(DERIVED, "")
            if not has_hole(text) and session.world.is_local(text):
                continue
            name = hubs.hub_target(session, text)
            session.add("foreign_code", name or option, literal=isinstance(node, ast.Constant) and DERIVED not in option,
                        detail={"pinned": pinned})  # fmt: skip
        elif isinstance(option, Unknown):
            session.add("foreign_code", option, node=node, detail={"pinned": pinned})


def finish(session: Session) -> None:
    """Nothing waits for the end."""
