"""Models and data sets of hubs, by name."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from allmend.planning.effects.arguments import list_effect, list_unknown, values_of
from allmend.planning.effects.targets import (
    host_of,
    hub_name,
    is_url,
    plain,
)  # fmt: skip
from allmend.planning.evaluation.calls import segment
from allmend.planning.evaluation.values import (
    HOLE_START,
    Made,
    Member,
    PathText,
    Unknown,
    Value,
    has_hole,
    options,
)  # fmt: skip

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session
    from allmend.planning.tables import Row

_FOLDER = re.compile(
    r"(?:save|output|out|ckpt|checkpoint|log|local|results?)_?(?:dir|path|folder)\w*$|_dir(?:ectory)?$", re.IGNORECASE
)
"""Names of folders that a notebook fills itself; a value of theirs that is not known is no model of a hub."""

_LOADED = re.compile(
    r"from_pretrained|from_config|Model|Config|\.load|Tokenizer|hub_download|snapshot_download|pipeline|Class"
)


def hub_target(session: Session, text: str) -> str | None:
    """`hf:NAME`, a URL, or None for a local path."""
    text = plain(text).strip()
    if is_url(text):
        return text
    found = hub_name(text)
    return f"hf:{found}" if found else None


def hub(session: Session, call: Call, row: Row) -> None:
    """A model of a hub; paths and what the notebook saved itself are nothing."""
    met = False
    for value, node in values_of(call, row):
        met = True
        if isinstance(value, str):
            _hub_text(session, call, row, value, node)
        elif isinstance(value, Unknown | Member) or (
            isinstance(value, Made)
            and not _LOADED.search(value.path)
            and not value.path.startswith("?")
            and not isinstance(value.receiver, str)
        ):
            written = segment(session.python.place, node) if node is not None else getattr(value, "source", "")
            if not _FOLDER.search(written):
                list_unknown(session, call, row, value, node)
    if not met and call.path.endswith("pipeline") and call.path.startswith("transformers"):
        task, node = call.get(0, "task")
        if isinstance(task, str):
            session.record.add("model", segment(session.python.place, call.node), place=session.python.place,
                               line=session.line, reason="the library chooses the task's default model")  # fmt: skip
    if isinstance(call.keywords.get("custom_pipeline"), str) and "custom_pipeline" in row.arg:
        text = plain(call.keywords["custom_pipeline"])
        if "/" in text and hub_name(text):
            session.add("foreign_code", text, prefix="hf:", literal=True, detail={"pinned": False})


def _hub_text(session: Session, call: Call, row: Row, value: str, node: ast.expr | None) -> None:
    world = session.world
    text = plain(value).strip()
    if not text:
        return
    if has_hole(text):
        if (
            text.startswith(("/", ".", "~"))
            or isinstance(value, PathText)
            or world.is_local(text.split(HOLE_START)[0] or "?")
        ):
            return
        if text.count("/") > 2 and "://" not in text:
            return
        list_effect(session, call, row, value, value, node)
        return
    if (
        world.is_local(text)
        or isinstance(value, PathText)
        or (text.startswith(("/", "drive/", "gdrive/")) and world.drive(text))
    ):
        return
    revision = None
    target = hub_target(session, text)
    if target is None:
        return
    if target.startswith("hf:") and "@" in target:
        target, _, revision = target.partition("@")
    list_effect(session, call, row, target, value, node, prefix="", **({"revision": revision} if revision else {}))


def hub_owned(session: Session, call: Call, row: Row) -> None:
    """A hub name only where an owner is given (bare names are names of the notebook's own)."""
    for value, node in values_of(call, row):
        if isinstance(value, str) and not has_hole(value) and "/" in value:
            _hub_text(session, call, row, value, node)


def hub_url(session: Session, call: Call, row: Row) -> None:
    """A hub repository that is cloned."""
    from allmend.planning.effects import cloning

    folder = call.args[0] if call.args else call.keywords.get("local_dir")
    for value, _node in values_of(call, row):
        if isinstance(value, str):
            url = value if is_url(value) else f"https://huggingface.co/{plain(value)}"
            cloning.add(session, url, plain(folder) if isinstance(folder, str) else None, session.world.cwd, exact=False,
                        line=session.line)  # fmt: skip
        else:
            list_unknown(session, call, row, value, _node)


def datasets(session: Session, call: Call, row: Row) -> None:
    """`load_dataset`: a hub name, or a builder with data files."""
    for value, node in values_of(call, row):
        if not isinstance(value, str):
            if isinstance(value, Unknown | Made | Member):
                list_unknown(session, call, row, value, node)
            continue
        text = plain(value)
        if text.lower() in session.tables.sets.get("dataset_builders", ()):
            _data_files(session, call)
        elif has_hole(text):
            if not text.startswith(("/", ".")):
                list_effect(session, call, row, value, value, node)
        elif is_url(text):
            list_effect(session, call, row, text, value, node, prefix="", kind="download", host=host_of(text))
        elif hub_name(text) and not session.world.is_local(text):
            list_effect(session, call, row, text, value, node)


def _data_files(session: Session, call: Call) -> None:
    value = call.keywords.get("data_files", call.keywords.get("data_dir"))
    pending: list[Value] = [value]
    count = 0
    while pending and count < 60:
        count += 1
        item = pending.pop(0)
        for _, option in options(item):
            if isinstance(option, dict):
                pending.extend(option.values())
            elif isinstance(option, list | tuple):
                pending.extend(option)
            elif isinstance(option, str) and is_url(option):
                if option.startswith("hf://datasets/"):
                    session.add("dataset", "/".join(plain(option)[14:].split("/")[:2]), prefix="hf:", literal=False)
                else:
                    session.add("download", plain(option) if not has_hole(option) else option, literal=False,
                                detail={"host": host_of(option)})  # fmt: skip


def hf_path(session: Session, call: Call, row: Row) -> None:
    """`hf://datasets/OWNER/NAME/..` given to a reader of files."""
    for value, node in values_of(call, row):
        if isinstance(value, str) and plain(value).startswith("hf://datasets/"):
            list_effect(session, call, row, "/".join(plain(value)[14:].partition("@")[0].split("/")[:2]), value, node)


def github(session: Session, call: Call, row: Row) -> None:
    """`OWNER/NAME:REF` of a code host, as its URL."""
    _github(session, call, row)


def _github(session: Session, call: Call, row: Row) -> None:
    for value, node in values_of(call, row):
        if isinstance(value, str) and not has_hole(value):
            text, _, ref = plain(value).partition(":")
            if text.startswith((".", "/", "~")) or text.count("/") != 1 or session.world.clone_of(text) is not None:
                continue
            from allmend.planning.effects.targets import pinned_name

            more = (
                {"pinned": bool(ref and pinned_name(ref))}
                if row.kind == "foreign_code"
                else {"revision": ref}
                if ref
                else {}
            )
            list_effect(session, call, row, f"https://github.com/{text}", value, node, **more)
        elif not isinstance(value, str) or not value.startswith(("/", ".")):
            list_unknown(session, call, row, value, node)


def url_or_hub(session: Session, call: Call, row: Row) -> None:
    """A model's handle: an address, or a name."""
    for value, node in values_of(call, row):
        if isinstance(value, str) and has_hole(value):
            list_effect(session, call, row, value, value, node)
        elif isinstance(value, str) and is_url(value):
            list_effect(session, call, row, plain(value), value, node)
        elif isinstance(value, str) and hub_name(value) and "/" in value and not session.world.is_local(value):
            list_effect(session, call, row, plain(value), value, node, prefix="")
        elif isinstance(value, Unknown) or (isinstance(value, Made) and "load" not in value.path):
            list_unknown(session, call, row, value, node)
