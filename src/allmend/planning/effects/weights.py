"""Weights that a library knows by a name of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allmend.planning.effects.arguments import list_effect, list_unknown, values_of
from allmend.planning.effects.targets import (
    is_url,
    plain,
)  # fmt: skip
from allmend.planning.evaluation.values import (
    Made,
    Symbol,
    Unknown,
    has_hole,
)  # fmt: skip

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session
    from allmend.planning.tables import Row


def keras_application(session: Session, call: Call, row: Row) -> None:
    """A class of `applications`; functions beside it load nothing."""
    word = call.path.rpartition(".")[2]
    if word[:1].isupper() and "(" not in call.path:
        session.add("model", word, literal=True, prefix=row.prefix)


def preset(session: Session, call: Call, row: Row) -> None:
    """A preset: a bare name is the library's, an owner's name is a hub's."""
    for value, node in values_of(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = plain(value)
            if text.startswith("hf://"):
                list_effect(session, call, row, "hf:" + text[5:], value, node, prefix="")
            elif text.startswith("kaggle://"):
                list_effect(session, call, row, "kaggle:" + text[9:], value, node, prefix="")
            elif not session.world.is_local(text) and not text.startswith((".", "/")):
                list_effect(session, call, row, text, value, node)
        elif not isinstance(value, Symbol):
            list_unknown(session, call, row, value, node)


def named(session: Session, call: Call, row: Row) -> None:
    """A name that the library resolves; files are nothing."""
    for value, node in values_of(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = plain(value)
            if text.startswith("hf-hub:"):
                list_effect(session, call, row, "hf:" + text[7:], value, node, prefix="")
            elif not text.startswith((".", "/", "~")) and not re.search(r"\.(?:pt|pth|bin|onnx)$", text):
                list_effect(session, call, row, text, value, node)
        elif isinstance(value, Unknown | Made | str):
            list_unknown(session, call, row, value, node) if not isinstance(value, str) else list_effect(
                session, call, row, value, value, node
            )


_RELEASED = re.compile(r"^(?:yolo|rtdetr|sam|mobile_sam|fastsam|FastSAM)[\w.-]*\.pt$", re.IGNORECASE)


def weights(session: Session, call: Call, row: Row) -> None:
    """Weights by a released file name; other files are the notebook's own."""
    for value, node in values_of(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = plain(value)
            if _RELEASED.match(text) and not session.world.is_local(text):
                list_effect(session, call, row, text, value, node)
            elif is_url(text):
                list_effect(session, call, row, text, value, node, prefix="")
        elif isinstance(value, str) and has_hole(value) and "/" not in value:
            list_effect(session, call, row, value, value, node)
