"""Addresses that are fetched, and hosts that are sent to."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from allmend.planning.effects.arguments import is_exact, list_effect, list_unknown, values_of
from allmend.planning.effects.targets import (
    drive_host,
    drive_id,
    host_of,
    is_url,
    loopback,
    plain,
)  # fmt: skip
from allmend.planning.evaluation.calls import segment
from allmend.planning.evaluation.values import (
    DERIVED,
    Made,
    Member,
    Unknown,
    Value,
    has_hole,
    options,
    strings,
)  # fmt: skip

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session
    from allmend.planning.tables import Row


def url(session: Session, call: Call, row: Row) -> None:
    """A URL where paths may be given too: only addresses count."""
    for value, node in values_of(call, row):
        if isinstance(value, str) and is_url(value) and not plain(value).startswith("hf://") and not loopback(value):
            _fetched(session, call, row, value, node)


def _based(call: Call, value: str) -> str:
    """A path joined with the `base_url` that its client was made with."""
    base = call.receiver.keywords.get("base_url") if isinstance(call.receiver, Made) else None
    if isinstance(base, str) and not is_url(value):
        return base.rstrip("/") + "/" + value.lstrip("/") + DERIVED
    return value


def url_any(session: Session, call: Call, row: Row) -> None:
    """A URL where nothing else can be given."""
    for value, node in values_of(call, row):
        if isinstance(value, str):
            value = _based(call, value)
            if loopback(value) or not plain(value):
                continue
            if is_url(value) or has_hole(value):
                _fetched(session, call, row, value, node)
            elif (
                plain(value).startswith("/")
                and not isinstance(node, ast.Constant)
                and node is not None
                and row.kind == "download"
            ):
                session.add("download", Unknown(segment(session.python.place, node), "the address is given elsewhere"),
                            node=node)  # fmt: skip
        elif isinstance(value, Unknown | Made | Member):
            list_unknown(session, call, row, value, node)


def _fetched(session: Session, call: Call, row: Row, value: str, node: ast.expr | None) -> None:
    text = plain(value).strip() if not has_hole(value) else value
    if not has_hole(text) and text.startswith("https://huggingface.co/datasets/") and row.kind == "dataset":
        text = "/".join(text.split("/")[4:6])
    more: dict[str, Any] = {"host": host_of(text)} if row.kind == "download" else {}
    secret = carried(session, call) if row.kind == "download" and (call.keywords or has_hole(value)) else None
    if secret:
        more["secret"] = secret
    list_effect(session, call, row, text, value, node, **more)
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
    names = [text for text in strings(given) if not has_hole(text)]
    if names:
        from allmend.planning.effects import directories

        for text in names:
            session.world.fetched[session.world.key(plain(text))] = plain(value)
            directories.under_drive(session, text, "write")
    elif last in ("download", "get_file"):
        session.world.fetched[session.world.key(plain(value).rstrip("/").rsplit("/", 1)[-1])] = plain(value)


def request(session: Session, call: Call, row: Row) -> None:
    """`request(method, url)`."""
    method, _ = call.get(0, "method")
    if isinstance(method, str) and plain(method).upper() in ("POST", "PUT", "PATCH", "DELETE"):
        sent(session, call, row)
    else:
        url_any(session, call, row)


def request_object(session: Session, call: Call, row: Row) -> None:
    """`urlopen(url)`, `Request(url, data=..)`."""
    if call.keywords.get("data") is not None and call.path.endswith(("urlopen", "Request")):
        sent(session, call, row)
        return
    for value, _node in values_of(call, row):
        if isinstance(value, Made) and "Request" in value.path:
            return
        del value
    url_any(session, call, row)


def sent(session: Session, call: Call, row: Row) -> None:
    secret = carried(session, call)
    detail = {"secret": secret} if secret else None
    for value, node in values_of(call, row):
        if isinstance(value, str):
            value = _based(call, value)
            if loopback(value):
                continue
            found = host_of(value)
            if found:
                session.add("send", found, node=None, literal=is_exact(value, node), detail=detail)
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
    sent(session, call, row)


def gdrive(session: Session, call: Call, row: Row) -> None:
    """gdown: an id or a link."""
    for value, node in values_of(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = plain(value)
            found = drive_id(text) if drive_host(text) or not is_url(text) else None
            if not text.strip() or (" " in text.strip() and not is_url(text)):
                continue  # An empty field, or words that ask for an address.
            if is_url(text) and found is None:
                list_effect(session, call, row, text, value, node, host=host_of(text))
            else:
                list_effect(session, call, row, f"gdrive:{found or text}", value, node, host="drive.google.com")
            output = call.keywords.get("output", call.args[1] if len(call.args) > 1 else None)
            if isinstance(output, str) and not has_hole(output):
                session.world.fetched[session.world.key(plain(output))] = f"gdrive:{found or text}"
        elif isinstance(value, str):
            match = re.search(r"id=\ufffd?", value)
            del match
            list_effect(session, call, row, value, value, node)
        elif value is not None:
            list_unknown(session, call, row, value, node)


def gdrive_id(session: Session, call: Call, row: Row) -> None:
    """A bare Drive id."""
    gdrive(session, call, row)


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


def stored(session: Session, call: Call, row: Row) -> None:
    """A download from a cloud's storage: `s3://BUCKET/KEY` or `gs://BUCKET/KEY`, wherever on the way the names were given."""
    named: list[Value] = []
    made = call.receiver
    for keyword in ("Bucket", "Key"):
        if keyword in call.keywords:
            named.append(call.keywords[keyword])
    while isinstance(made, Made) and len(named) < 2:
        if made.path.rpartition(".")[2] in ("Bucket()", "bucket()", "get_bucket()", "blob()", "get_blob()", "Object()"):
            named[:0] = [value for value in made.args[:2] if isinstance(value, str)]
        made = made.receiver
    named.extend(value for value in call.args[: 2 - len(named)] if isinstance(value, str))
    scheme = "gs" if call.path.startswith("google") else "s3"
    if len(named) == 2 and all(isinstance(value, str) for value in named):
        address = f"{scheme}://{plain(str(named[0]))}/{plain(str(named[1])).lstrip('/')}{DERIVED}"
        session.add("download", address, literal=False, detail={"host": host_of(address)})
    else:
        session.add("download", Unknown(segment(session.python.place, call.node), "the bucket or key is not known"),
                    detail={"host": ""})  # fmt: skip


def socket_address(session: Session, call: Call, row: Row) -> None:
    """A `(host, port)` pair that is connected to."""
    value, node = call.get(*row.arg)
    host = value[0] if isinstance(value, list | tuple) and value else None
    if isinstance(host, str) and not loopback("tcp://" + host):
        session.add("send", host, literal=isinstance(node, ast.Tuple) and DERIVED not in host)
