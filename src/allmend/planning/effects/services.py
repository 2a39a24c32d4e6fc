"""Servers that a library starts, and remote models that a client asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allmend.planning.effects.targets import (
    host_of,
    loopback,
)  # fmt: skip
from allmend.planning.evaluation.values import (
    DERIVED,
    Made,
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


def colab_script(session: Session, call: Call, row: Row) -> None:
    """A script that asks the page for a port's public address."""
    value, _ = call.get(*row.arg)
    if any("proxyPort" in text for text in strings(value)):
        session.add("serve", "colab-proxy", literal=True, detail={"public": "no"})


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


def socket(session: Session, call: Call, row: Row) -> None:
    """`connect((host, port))`."""
    value, node = call.get(*row.arg)
    for _, option in options(value):
        host = option[0] if isinstance(option, tuple | list) and option else option
        if isinstance(host, str) and (has_hole(host) or not loopback("//" + host)):
            session.add("send", host, node=node if has_hole(host) else None, literal=DERIVED not in host)
        elif isinstance(host, Unknown | Made):
            session.add("send", host, node=node)


def top_module(session: Session, call: Call, row: Row) -> None:
    """The library's own service."""
    session.add("send", call.path.partition(".")[0], literal=True)
