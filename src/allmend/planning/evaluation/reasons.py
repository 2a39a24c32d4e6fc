"""Why the result of a call is not known, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call


def result_reason(call: Call) -> str:
    """Why the result of `call` is not known."""
    path = call.path
    if path.startswith("?"):
        return "it is the result of a call that is not known"
    if path in ("builtins.input", "builtins.raw_input") or path.startswith("getpass."):
        return "a person types it while the notebook runs"
    if path.startswith(("requests.", "urllib", "httpx.", "huggingface_hub.")):
        return "it is a result from the network"
    if path.startswith(("os.environ", "os.getenv", "google.colab.userdata")):
        return "it is read from the environment"
    if path == "builtins.open" or path.startswith(("builtins.open", "json.load", "glob.", "os.listdir", "yaml.")):
        return "it is read from a file"
    if path.startswith(("random.", "numpy.random", "uuid.", "datetime.", "time.", "secrets.")):
        return "it is random or depends on the time"
    return f"it is the result of {path.replace('()', '')[:80]}"
