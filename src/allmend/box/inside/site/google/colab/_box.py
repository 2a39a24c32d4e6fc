"""Questions to the supervisor, through the only way out."""

import json
import os
import urllib.error
import urllib.request


class NotPermitted(Exception):
    """The box refused it; the text names the line to add to the permissions."""


def ask(what: str, **details: object) -> dict:
    """Ask the supervisor; raises NotPermitted with its words."""
    proxy = os.environ.get("ALLMEND_PROXY", "http://127.0.0.1:3128")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
    request = urllib.request.Request(f"http://allmend.box/{what}", data=json.dumps(details).encode(), method="POST")
    try:
        with opener.open(request, timeout=600) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise NotPermitted(error.read(4000).decode("utf-8", "replace").strip()) from None


def content() -> str:
    """The working folder."""
    return os.environ.get("ALLMEND_CONTENT", "/content")


def address(port: int, path: str = "/") -> str:
    """Where a port of this notebook is shown; by itself the address opens nothing, a person has the link."""
    try:
        found = ask("address", port=int(port), path=str(path)).get("url")
    except (NotPermitted, OSError):
        found = None
    return found or f"http://127.0.0.1:{int(port)}{path}"
