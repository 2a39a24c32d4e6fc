"""How a table's row reads its target from a call: one function for each word of `as`."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from allmend.planning.effects.targets import (
    drive_host,
    drive_id,
    host_of,
    hub_name,
    is_url,
    loopback,
    plain,
    repository,
)  # fmt: skip
from allmend.planning.expressions import segment
from allmend.planning.pure import MISSING
from allmend.planning.values import (
    DERIVED,
    HOLE_START,
    Class,
    Function,
    Made,
    Member,
    Object,
    PathText,
    Symbol,
    Unknown,
    Value,
    has_hole,
    options,
)  # fmt: skip

if TYPE_CHECKING:
    from allmend.planning.expressions import Call
    from allmend.planning.session import Session
    from allmend.planning.tables import Row

_FOLDER = re.compile(
    r"(?:save|output|out|ckpt|checkpoint|log|local|results?)_?(?:dir|path|folder)\w*$|_dir(?:ectory)?$", re.IGNORECASE
)
"""Names of folders that a notebook fills itself; a value of theirs that is not known is no model of a hub."""
_LOADED = re.compile(
    r"from_pretrained|from_config|Model|Config|\.load|Tokenizer|hub_download|snapshot_download|pipeline|Class"
)


def _values(call: Call, row: Row) -> Iterator[tuple[Value, ast.expr | None]]:
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


def _exact(value: Value, node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and not (isinstance(value, str) and DERIVED in value)


def _detail(call: Call, row: Row, **more: Any) -> dict[str, Any]:
    detail = dict(more)
    for key, word in row.detail.items():
        if isinstance(word, str) and word.startswith("="):
            given = call.keywords.get(word[1:])
            if isinstance(given, str) and not has_hole(given):
                detail[key] = plain(given)
        else:
            detail[key] = word
    return detail


def _add(session: Session, call: Call, row: Row, text: Value, value: Value, node: ast.expr | None, prefix: str | None = None,
         kind: str | None = None, **more: Any) -> None:  # fmt: skip
    session.add(kind or row.kind, text, node=node, literal=_exact(value, node),  # type: ignore[arg-type]
                prefix=row.prefix if prefix is None else prefix, detail=_detail(call, row, **more))  # fmt: skip


def _unknown(session: Session, call: Call, row: Row, value: Value, node: ast.expr | None) -> None:
    """The target cannot be worked out: its source expression stands for it."""
    if isinstance(value, Made):
        value = Unknown(segment(session.python.place, node) if node is not None else value.source, value.reason)
    if isinstance(value, Member):
        value = Unknown(segment(session.python.place, node) if node is not None else value.path, "it is an attribute of a value "
                        "that is made while the notebook runs")  # fmt: skip
    if isinstance(value, Class | Function | Object):
        return
    session.add(row.kind, value, node=node, detail=_detail(call, row))  # type: ignore[arg-type]


def fixed(session: Session, call: Call, row: Row) -> None:
    """The target stands in the row."""
    if row.target:
        if row.kind == "hardware":
            from allmend.planning.effects import hardware

            hardware.need(session, row.target)
            return
        if row.kind == "send" and row.target == "huggingface" and call.keywords.get("push_to_hub") is False:
            return
        session.add(row.kind, row.target, literal=True, detail=_detail(call, row))  # type: ignore[arg-type]


def name(session: Session, call: Call, row: Row) -> None:
    """A name as it is written."""
    for value, node in _values(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = plain(value)
            if text:
                _add(session, call, row, text, value, node)
        elif isinstance(value, int) and not isinstance(value, bool):
            _add(session, call, row, str(value), value, node)
        elif isinstance(value, Symbol):
            continue
        elif value is not None:
            _unknown(session, call, row, value, node)


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
    for value, node in _values(call, row):
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
                _unknown(session, call, row, value, node)
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
            or world.was_made(text.split(HOLE_START)[0] or "?")
        ):
            return
        if text.count("/") > 2 and "://" not in text:
            return
        _add(session, call, row, value, value, node)
        return
    if world.was_made(text) or isinstance(value, PathText) or world.drive(text):
        return
    revision = None
    target = hub_target(session, text)
    if target is None:
        return
    if target.startswith("hf:") and "@" in target:
        target, _, revision = target.partition("@")
    _add(session, call, row, target, value, node, prefix="", **({"revision": revision} if revision else {}))


def hub_owned(session: Session, call: Call, row: Row) -> None:
    """A hub name only where an owner is given (bare names are names of the notebook's own)."""
    for value, node in _values(call, row):
        if isinstance(value, str) and not has_hole(value) and "/" in value:
            _hub_text(session, call, row, value, node)


def hub_url(session: Session, call: Call, row: Row) -> None:
    """A hub repository that is cloned."""
    from allmend.planning.effects import cloning

    folder = call.args[0] if call.args else call.keywords.get("local_dir")
    for value, _node in _values(call, row):
        if isinstance(value, str):
            url = value if is_url(value) else f"https://huggingface.co/{plain(value)}"
            cloning.add(session, url, plain(folder) if isinstance(folder, str) else None, session.world.cwd, exact=False,
                        line=session.line)  # fmt: skip
        else:
            _unknown(session, call, row, value, _node)


def datasets(session: Session, call: Call, row: Row) -> None:
    """`load_dataset`: a hub name, or a builder with data files."""
    for value, node in _values(call, row):
        if not isinstance(value, str):
            if isinstance(value, Unknown | Made | Member):
                _unknown(session, call, row, value, node)
            continue
        text = plain(value)
        if text.lower() in session.tables.sets.get("dataset_builders", ()):
            _data_files(session, call)
        elif has_hole(text):
            if not text.startswith(("/", ".")):
                _add(session, call, row, value, value, node)
        elif is_url(text):
            _add(session, call, row, text, value, node, prefix="", kind="download", host=host_of(text))
        elif hub_name(text) and not session.world.was_made(text):
            _add(session, call, row, text, value, node)


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
    for value, node in _values(call, row):
        if isinstance(value, str) and plain(value).startswith("hf://datasets/"):
            _add(session, call, row, "/".join(plain(value)[14:].partition("@")[0].split("/")[:2]), value, node)


def url(session: Session, call: Call, row: Row) -> None:
    """A URL where paths may be given too: only addresses count."""
    for value, node in _values(call, row):
        if isinstance(value, str) and is_url(value) and not plain(value).startswith("hf://") and not loopback(value):
            _fetched(session, call, row, value, node)


def url_any(session: Session, call: Call, row: Row) -> None:
    """A URL where nothing else can be given."""
    for value, node in _values(call, row):
        if isinstance(value, str):
            if loopback(value) or not plain(value):
                continue
            if is_url(value) or has_hole(value):
                _fetched(session, call, row, value, node)
            elif not isinstance(node, ast.Constant) and node is not None and row.kind == "download":
                session.add("download", Unknown(segment(session.python.place, node), "the address is given elsewhere"),
                            node=node)  # fmt: skip
        elif isinstance(value, Unknown | Made | Member):
            _unknown(session, call, row, value, node)


def _fetched(session: Session, call: Call, row: Row, value: str, node: ast.expr | None) -> None:
    text = plain(value).strip() if not has_hole(value) else value
    if not has_hole(text) and text.startswith("https://huggingface.co/datasets/") and row.kind == "dataset":
        text = "/".join(text.split("/")[4:6])
    more: dict[str, Any] = {"host": host_of(text)} if row.kind == "download" else {}
    secret = carried(session, call) if row.kind == "download" and (call.keywords or has_hole(value)) else None
    if secret:
        more["secret"] = secret
    _add(session, call, row, text, value, node, **more)
    if has_hole(value):
        return
    given = (
        call.keywords.get("filename")
        or call.keywords.get("output")
        or call.keywords.get("fname")
        or call.keywords.get("out")
    )
    last = call.path.rpartition(".")[2]
    if (
        given is None
        and last in ("urlretrieve", "download", "retrieve", "download_url_to_file", "download_url")
        and len(call.args) > 1
    ):
        given = call.args[1]
    if isinstance(given, str) and not has_hole(given):
        session.world.fetched[session.world.key(plain(given))] = plain(value)
        from allmend.planning.effects import directories

        directories.under_drive(session, given, "write")
    elif last in ("download", "get_file"):
        session.world.fetched[session.world.key(plain(value).rstrip("/").rsplit("/", 1)[-1])] = plain(value)


def request(session: Session, call: Call, row: Row) -> None:
    """`request(method, url)`."""
    method, _ = call.get(0, "method")
    if isinstance(method, str) and plain(method).upper() in ("POST", "PUT", "PATCH", "DELETE"):
        _sent(session, call, row)
    else:
        url_any(session, call, row)


def request_object(session: Session, call: Call, row: Row) -> None:
    """`urlopen(url)`, `Request(url, data=..)`."""
    if call.keywords.get("data") is not None and call.path.endswith(("urlopen", "Request")):
        _sent(session, call, row)
        return
    for value, _node in _values(call, row):
        if isinstance(value, Made) and "Request" in value.path:
            return
        del value
    url_any(session, call, row)


def _sent(session: Session, call: Call, row: Row) -> None:
    secret = carried(session, call)
    detail = {"secret": secret} if secret else None
    for value, node in _values(call, row):
        if isinstance(value, str):
            if loopback(value):
                continue
            found = host_of(value)
            if found:
                session.add("send", found, node=None, literal=_exact(value, node), detail=detail)
                continue
            session.add("send", value, node=node, detail=detail)
        elif isinstance(value, Unknown | Made | Member):
            session.add("send", value, node=node, detail=detail)


_SECRET = re.compile(
    r"^\$(?P<env>\w+)$|userdata\.get\(\s*['\"](?P<secret>[\w-]+)|environ\[?(?:\.get)?\(?\s*['\"](?P<name>\w+)"
)


def carried(session: Session, call: Call) -> str | None:
    """The name of a secret that travels with a request: in its address, headers, parameters or body."""
    from allmend.planning.secrets import key_like

    pending: list[Value] = [*call.args[:4], *call.keywords.values()]
    for _ in range(60):
        if not pending:
            return None
        item = pending.pop()
        for _, option in options(item):
            sources: list[str] = []
            if isinstance(option, str):
                sources = [hole.source for hole in session.holes.within(option)]
            elif isinstance(option, Unknown | Made):
                sources = [option.source]
            elif isinstance(option, dict):
                pending.extend(list(option.values())[:40])
            elif isinstance(option, list | tuple):
                pending.extend(option[:40])
            for source in sources:
                match = _SECRET.search(source)
                name_found = match and (match["env"] or match["secret"] or match["name"])
                if name_found and (key_like(name_found) or match["secret"]):  # type: ignore[index]
                    return name_found
    return None


def host(session: Session, call: Call, row: Row) -> None:
    """Data goes to the URL's host."""
    _sent(session, call, row)


def gdrive(session: Session, call: Call, row: Row) -> None:
    """gdown: an id or a link."""
    for value, node in _values(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = plain(value)
            found = drive_id(text) if drive_host(text) or not is_url(text) else None
            if is_url(text) and found is None:
                _add(session, call, row, text, value, node, host=host_of(text))
            else:
                _add(session, call, row, f"gdrive:{found or text}", value, node, host="drive.google.com")
            output = call.keywords.get("output", call.args[1] if len(call.args) > 1 else None)
            if isinstance(output, str) and not has_hole(output):
                session.world.fetched[session.world.key(plain(output))] = f"gdrive:{found or text}"
        elif isinstance(value, str):
            match = re.search(r"id=\ufffd?", value)
            del match
            _add(session, call, row, value, value, node)
        elif value is not None:
            _unknown(session, call, row, value, node)


def gdrive_id(session: Session, call: Call, row: Row) -> None:
    """A bare Drive id."""
    gdrive(session, call, row)


def clone(session: Session, call: Call, row: Row) -> None:
    """`Repo.clone_from(url, folder)`."""
    from allmend.planning.effects import cloning

    folder, _ = call.get(1, "to_path", "path", "target")
    branch = call.keywords.get("branch")
    for value, node in _values(call, row):
        if isinstance(value, str):
            cloning.add(session, value, plain(folder) if isinstance(folder, str) else None, session.world.cwd,
                        exact=_exact(value, node), branch=branch if isinstance(branch, str) else None, line=session.line)  # fmt: skip
        else:
            _unknown(session, call, row, value, node)


def kaggle(session: Session, call: Call, row: Row) -> None:
    """A Kaggle handle, or the page's URL."""
    for value, node in _values(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = plain(value).rstrip("/")
            match = re.search(r"kaggle\.com/(?:datasets/|c/|competitions/)?([\w-]+(?:/[\w.-]+)?)", text)
            _add(session, call, row, match[1] if match else text, value, node)
        elif not isinstance(value, Symbol):
            _unknown(session, call, row, value, node)


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
    for value, node in _values(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = re.sub(r"^https?://[^/]+/", "", plain(value)).replace("/dataset/", "/").strip("/")
            _add(session, call, row, text, value, node)
        else:
            _unknown(session, call, row, value, node)


def last(session: Session, call: Call, row: Row) -> None:
    """The called name itself."""
    word = call.path.rpartition(".")[2]
    session.add(row.kind, word, literal=True, prefix=row.prefix, detail=_detail(call, row))  # type: ignore[arg-type]


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
    for value, node in _values(call, row):
        if isinstance(value, Symbol | Member):
            session.add(row.kind, value.path.rpartition(".")[2], literal=True, prefix=row.prefix)  # type: ignore[arg-type]
        elif isinstance(value, str) and is_url(value):
            _add(session, call, row, plain(value), value, node, prefix="", kind="download", host=host_of(value))
        elif isinstance(value, str) and not has_hole(value):
            _add(session, call, row, plain(value), value, node)


_LIBRARY_HOSTS = {"arxiv": "https://export.arxiv.org", "wikipedia": "https://en.wikipedia.org",
                  "yfinance": "https://query1.finance.yahoo.com"}  # fmt: skip


def library_host(session: Session, call: Call, row: Row) -> None:
    """A library that knows its own host."""
    word = call.path.partition(".")[0]
    found = _LIBRARY_HOSTS.get(word) or next((h for w, h in _LIBRARY_HOSTS.items() if w in call.path.lower()), None)
    if found:
        session.add("download", found, literal=False, detail={"host": host_of(found)})


def cloud(session: Session, call: Call, row: Row) -> None:
    """Uploads to a cloud's storage."""
    session.add("send", "google-cloud-storage" if call.path.startswith("google") else "aws", literal=True)


def github(session: Session, call: Call, row: Row) -> None:
    """`OWNER/NAME:REF` of a code host, as its URL."""
    _github(session, call, row)


def _github(session: Session, call: Call, row: Row) -> None:
    for value, node in _values(call, row):
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
            _add(session, call, row, f"https://github.com/{text}", value, node, **more)
        elif not isinstance(value, str) or not value.startswith(("/", ".")):
            _unknown(session, call, row, value, node)


def url_or_hub(session: Session, call: Call, row: Row) -> None:
    """A model's handle: an address, or a name."""
    for value, node in _values(call, row):
        if isinstance(value, str) and has_hole(value):
            _add(session, call, row, value, value, node)
        elif isinstance(value, str) and is_url(value):
            _add(session, call, row, plain(value), value, node)
        elif isinstance(value, str) and hub_name(value) and "/" in value and not session.world.was_made(value):
            _add(session, call, row, plain(value), value, node, prefix="")
        elif isinstance(value, Unknown) or (isinstance(value, Made) and "load" not in value.path):
            _unknown(session, call, row, value, node)


def keras_application(session: Session, call: Call, row: Row) -> None:
    """A class of `applications`; functions beside it load nothing."""
    word = call.path.rpartition(".")[2]
    if word[:1].isupper() and "(" not in call.path:
        session.add("model", word, literal=True, prefix=row.prefix)


def preset(session: Session, call: Call, row: Row) -> None:
    """A preset: a bare name is the library's, an owner's name is a hub's."""
    for value, node in _values(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = plain(value)
            if text.startswith("hf://"):
                _add(session, call, row, "hf:" + text[5:], value, node, prefix="")
            elif text.startswith("kaggle://"):
                _add(session, call, row, "kaggle:" + text[9:], value, node, prefix="")
            elif not session.world.was_made(text) and not text.startswith((".", "/")):
                _add(session, call, row, text, value, node)
        elif not isinstance(value, Symbol):
            _unknown(session, call, row, value, node)


def named(session: Session, call: Call, row: Row) -> None:
    """A name that the library resolves; files are nothing."""
    for value, node in _values(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = plain(value)
            if text.startswith("hf-hub:"):
                _add(session, call, row, "hf:" + text[7:], value, node, prefix="")
            elif not text.startswith((".", "/", "~")) and not re.search(r"\.(?:pt|pth|bin|onnx)$", text):
                _add(session, call, row, text, value, node)
        elif isinstance(value, Unknown | Made | str):
            _unknown(session, call, row, value, node) if not isinstance(value, str) else _add(
                session, call, row, value, value, node
            )


_RELEASED = re.compile(r"^(?:yolo|rtdetr|sam|mobile_sam|fastsam|FastSAM)[\w.-]*\.pt$", re.IGNORECASE)


def weights(session: Session, call: Call, row: Row) -> None:
    """Weights by a released file name; other files are the notebook's own."""
    for value, node in _values(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = plain(value)
            if _RELEASED.match(text) and not session.world.was_made(text):
                _add(session, call, row, text, value, node)
            elif is_url(text):
                _add(session, call, row, text, value, node, prefix="")
        elif isinstance(value, str) and has_hole(value) and "/" not in value:
            _add(session, call, row, value, value, node)


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
                _path_text(session, call, row, option, _exact(option, node))
        else:
            session.add(row.kind, option, node=node)  # type: ignore[arg-type]


def _path_text(session: Session, call: Call, row: Row, text: str, exact: bool) -> None:
    clean = plain(text)
    if is_url(clean):
        session.add(row.kind, clean, literal=exact)  # type: ignore[arg-type]
        if call.path.startswith("pandas"):
            session.add("download", clean, literal=exact, detail={"host": host_of(clean)})
        return
    full = session.world.resolve(clean)
    session.add(row.kind, full, literal=exact and DERIVED not in text)  # type: ignore[arg-type]


_DEFAULT_PORTS = {"flask": 5000, "uvicorn": 8000, "dash": 8050, "jupyter_dash": 8050, "waitress": 8080, "bottle": 8080,
                  "aiohttp": 8080, "panel": None}  # fmt: skip


def port(session: Session, call: Call, row: Row) -> None:
    """A server with its port."""
    value = call.keywords.get("port")
    if value is None and call.args and isinstance(call.args[0], tuple) and len(call.args[0]) > 1:
        value = call.args[0][1]
    if isinstance(value, int) and not isinstance(value, bool):
        session.add("serve", f"port:{value}", literal=True, detail={"public": "no"})
        return
    default = _DEFAULT_PORTS.get(call.path.partition(".")[0])
    session.add(
        "serve", f"port:{default}" if default and value is None else "launch", literal=True, detail={"public": "no"}
    )


_UI_NAMES = ("demo", "iface", "interface", "app", "ui", "block", "gr", "webui", "gui")


def gradio(session: Session, call: Call, row: Row) -> None:
    """`.launch(share=True)`; a name that is not known counts when gradio is imported."""
    if not call.path.startswith(("gradio", "smolagents", "trame")):
        if "gradio" not in session.modules and not any(
            word in call.path.lower() for word in ("demo", "iface", "gradio")
        ):
            return
        if not call.path.startswith("?") and "gradio" not in call.path:
            return
    key = f"launch {session.python.place.cell} {call.node.lineno}"
    if key in session.facts:
        return
    session.facts[key] = True
    share = call.keywords.get("share")
    for _, option in options(share) if share is not None else ():
        if option is True or isinstance(option, Unknown | Made):
            session.add("serve", "gradio-share", literal=option is True, detail={"public": "yes"})
            return
    number = call.keywords.get("server_port")
    if isinstance(number, int) and not isinstance(number, bool):
        session.add("serve", f"port:{number}", literal=True, detail={"public": "no"})
    else:
        session.add("serve", "launch", literal=True, detail={"public": "no"})


def _client(call: Call, *names: str) -> Value:
    value: Value = call.receiver
    for key in names:
        if key in call.keywords:
            return call.keywords[key]
    for _ in range(8):
        if not isinstance(value, Made):
            return None
        for key in names:
            if key in value.keywords:
                return value.keywords[key]
        value = value.receiver
    return None


_KNOWN_HOSTS = {"generativelanguage.googleapis.com": "google-genai", "api.mistral.ai": "mistral", "api.openai.com": "openai",
                "api.groq.com": "groq", "api.together.xyz": "together", "router.huggingface.co": "huggingface",
                "api-inference.huggingface.co": "huggingface"}  # fmt: skip


def openai_client(session: Session, call: Call, row: Row) -> None:
    """A client of the OpenAI kind: its base URL says who is asked."""
    base = _client(call, "base_url", "api_base", "openai_api_base", "azure_endpoint")
    if isinstance(base, str) and not has_hole(base):
        if loopback(base):
            return
        found = host_of(base)
        session.add("send", _KNOWN_HOSTS.get(found, found), literal=False)
        return
    if isinstance(base, Unknown | Made) or (isinstance(base, str) and has_hole(base)):
        session.add("send", base)
        return
    session.add("send", row.target or "openai", literal=True)


def top_module(session: Session, call: Call, row: Row) -> None:
    """The library's own service."""
    session.add("send", call.path.partition(".")[0], literal=True)


READERS: dict[str, Callable[[Session, Call, Row], None]] = {
    "fixed": fixed, "name": name, "hub": hub, "hub-owned": hub_owned, "hub-url": hub_url, "datasets": datasets,
    "hf-path": hf_path, "url": url, "url-any": url_any, "request": request, "request-object": request_object, "host": host,
    "gdrive": gdrive, "gdrive-id": gdrive_id, "clone": clone, "kaggle": kaggle, "roboflow": roboflow,
    "roboflow-url": roboflow_url, "last": last, "last-fetch": last_fetch, "before-last": before_last,
    "last-of-symbol": last_of_symbol, "library-host": library_host, "cloud": cloud, "github": github, "github-name": github,
    "url-or-hub": url_or_hub, "keras-application": keras_application, "preset": preset, "named": named, "weights": weights,
    "path": path, "port": port, "gradio": gradio, "openai-client": openai_client, "openai-wrapper": openai_client,
    "top-module": top_module, "service": fixed,
}  # fmt: skip


__all__ = ["READERS", "hub_target", "repository"]
