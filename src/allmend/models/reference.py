"""Reading a model reference as a person writes it."""

from __future__ import annotations

import re
from pathlib import Path

from allmend.errors import NotFound, UsageError, nearest
from allmend.models.catalogue import catalogue
from allmend.nouns.model import ModelRef

# As hubs allow them: 96 characters at most, no `--` and no `..`.
_OWNER_NAME = re.compile(
    r"(?=.{3,96}\Z)(?!.*(?:--|\.\.))[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
)
_HUB_URL = re.compile(r"hub://(?P<host>[^/\s]+)/(?P<name>[^@\s]+)(?:@(?P<revision>\S+))?")


def parse(text: str) -> ModelRef:
    """`gemma-3-270m`, `OWNER/NAME[@REV]`, `hub://HOST/OWNER/NAME[@REV]`, a folder or a `.gguf` file.

    A path that exists wins over a hub name of the same spelling; `./` in front says path without doubt.

    Raises:
        UsageError: it is none of these.
        NotFound: it is written as a path, or as a catalogue name, and is not there.
    """
    text = text.strip()
    if not text or "\0" in text:
        raise UsageError("a model reference is empty", hint="Try: gemma-3-270m, OWNER/NAME, a folder, a .gguf file.")
    if text.startswith("hub://"):
        return _hub_url(text)
    if text in catalogue().models:
        return ModelRef(source="catalogue", name=text)
    path = _path(text)
    written_as_path = (
        text.startswith(("./", "../", "/", "~")) or text.endswith((".gguf", ".onnx", "/")) or text in {".", ".."}
    )
    if path and path.is_dir():
        return ModelRef(source="folder", name=text)
    if path and path.is_file():
        if path.suffix.lower() not in (".gguf", ".onnx"):
            raise UsageError(
                f"{text} is a file, but not a .gguf file",
                hint="Name the folder with config.json and .safetensors files, a .gguf file, or a voice's .onnx file.",
            )
        return ModelRef(source="file", name=text)
    if written_as_path:
        raise NotFound(f"there is no model at {text}", hint="Check the path; `allmend models` lists what is here.")
    name, _, revision = text.partition("@")
    if _OWNER_NAME.fullmatch(name):
        if "@" in text and not revision:
            raise UsageError(f"{text!r} ends in @ without a revision")
        return ModelRef(source="hub", name=name, revision=revision or None)
    raise NotFound(
        f"there is no model {text!r}",
        hint=nearest(name, catalogue().models)
        or "Write OWNER/NAME for a hub, a folder, a .gguf file, or a name from `allmend models`.",
    )


def _path(text: str) -> Path | None:
    """The path that `text` may be; None where it cannot be one."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, no such user, not writable as a path
        return None
    return path


def _hub_url(text: str) -> ModelRef:
    match = _HUB_URL.fullmatch(text)
    if not match or not _OWNER_NAME.fullmatch(match["name"]):
        raise UsageError(f"{text!r} is not hub://HOST/OWNER/NAME[@REV]")
    host = match["host"]
    local = host.split(":")[0] in {"localhost", "127.0.0.1", "[::1]"}
    return ModelRef(
        source="hub",
        name=match["name"],
        revision=match["revision"],
        endpoint=f"{'http' if local else 'https'}://{host}",
    )
