"""How a table's row reads its target from a call: one function for each word of `as`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from allmend.planning.effects.addresses import (
    cloud,
    gdrive,
    gdrive_id,
    host,
    library_host,
    request,
    request_object,
    socket_address,
    stored,
    url,
    url_any,
)
from allmend.planning.effects.arguments import detail_of, is_exact, list_effect, list_unknown, values_of
from allmend.planning.effects.catalogues import (
    before_last,
    kaggle,
    last,
    last_fetch,
    last_of_symbol,
    roboflow,
    roboflow_url,
)
from allmend.planning.effects.files import path
from allmend.planning.effects.hubs import datasets, github, hf_path, hub, hub_owned, hub_url, url_or_hub
from allmend.planning.effects.services import colab_script, gradio, openai_client, port, socket, top_module
from allmend.planning.effects.targets import (
    plain,
)  # fmt: skip
from allmend.planning.effects.weights import keras_application, named, preset, weights
from allmend.planning.evaluation.values import (
    Symbol,
    has_hole,
)  # fmt: skip

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session
    from allmend.planning.tables import Row


def fixed(session: Session, call: Call, row: Row) -> None:
    """The target stands in the row."""
    if row.target:
        if row.kind == "hardware":
            from allmend.planning.effects import hardware

            hardware.need(session, row.target)
            return
        if row.kind == "send" and row.target == "huggingface" and call.keywords.get("push_to_hub") is False:
            return
        session.add(row.kind, row.target, literal=True, detail=detail_of(call, row))  # type: ignore[arg-type]


def name(session: Session, call: Call, row: Row) -> None:
    """A name as it is written."""
    for value, node in values_of(call, row):
        if isinstance(value, str) and not has_hole(value):
            text = plain(value)
            if text:
                list_effect(session, call, row, text, value, node)
        elif isinstance(value, int) and not isinstance(value, bool):
            list_effect(session, call, row, str(value), value, node)
        elif isinstance(value, Symbol):
            continue
        elif value is not None:
            list_unknown(session, call, row, value, node)


def clone(session: Session, call: Call, row: Row) -> None:
    """`Repo.clone_from(url, folder)`."""
    from allmend.planning.effects import cloning

    folder, _ = call.get(1, "to_path", "path", "target")
    branch = call.keywords.get("branch")
    for value, node in values_of(call, row):
        if isinstance(value, str):
            cloning.add(session, value, plain(folder) if isinstance(folder, str) else None, session.world.cwd,
                        exact=is_exact(value, node), branch=branch if isinstance(branch, str) else None, line=session.line)  # fmt: skip
        else:
            list_unknown(session, call, row, value, node)


READERS: dict[str, Callable[[Session, Call, Row], None]] = {
    "fixed": fixed, "name": name, "hub": hub, "hub-owned": hub_owned, "hub-url": hub_url, "datasets": datasets,
    "hf-path": hf_path, "url": url, "url-any": url_any, "request": request, "request-object": request_object, "host": host,
    "gdrive": gdrive, "gdrive-id": gdrive_id, "clone": clone, "kaggle": kaggle, "roboflow": roboflow,
    "roboflow-url": roboflow_url, "last": last, "last-fetch": last_fetch, "before-last": before_last,
    "last-of-symbol": last_of_symbol, "library-host": library_host, "cloud": cloud, "stored": stored, "socket-address": socket_address, "github": github, "github-name": github,
    "url-or-hub": url_or_hub, "keras-application": keras_application, "preset": preset, "named": named, "weights": weights,
    "path": path, "port": port, "gradio": gradio, "openai-client": openai_client, "openai-wrapper": openai_client,
    "top-module": top_module, "colab-script": colab_script, "socket": socket, "service": fixed,
}  # fmt: skip
