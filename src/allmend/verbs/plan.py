"""`allmend plan`: what a notebook, script, folder, model or adapter will do, before it does it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from allmend.errors import InputError, NotFound
from allmend.notebooks.document import MAXIMUM_BYTES, read, read_bytes
from allmend.nouns.plan import Plan
from allmend.planning.assemble import Kind, plan_notebook
from allmend.planning.beside import beside
from allmend.planning.clones import cached
from allmend.planning.links import fetch, following, is_link
from allmend.planning.session import Reader
from allmend.verbs.settings import Settings

_SCRIPTS = (".py", ".pyw", ".sh", ".bash")
_MODELS = (".gguf", ".safetensors", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".npz", ".npy")


class PlanSettings(Settings):
    """Settings of `allmend plan`."""

    follow: bool = False
    """Fetch cloned repositories and scripts one level out and read them too. Nothing of them is run."""


def plan(path: str | Path, *, follow: bool = False) -> Plan:
    """Say what running `path` would do; nothing of it is executed.

    Args:
        path: an `.ipynb`, a `.py` or `.sh`, a folder, a link, `-` for standard input, a model file, `OWNER/NAME` at
            HF_ENDPOINT, or `hub://HOST/OWNER/NAME`.
        follow: fetch cloned repositories and scripts one level out (into the cache) and read them too.

    Raises:
        NotFound: there is no such file.
        InputError: it is neither a notebook nor anything else that can be planned.
        FetchError: a link could not be fetched.
    """
    settings = PlanSettings.of({"follow": follow})
    thing = str(path)
    if thing == "-":
        data = sys.stdin.buffer.read(MAXIMUM_BYTES + 1)
        if len(data) > MAXIMUM_BYTES:
            raise InputError(f"more than {MAXIMUM_BYTES >> 20} MiB", where="standard input")
        return _document(data, "standard input", None, settings)
    if is_link(thing):
        return _document(fetch(thing), thing, None, settings)
    if thing.startswith("hub://"):
        from allmend.planning.models import plan_model_reference

        return plan_model_reference(thing)
    file = Path(path)
    if file.is_dir():
        return _folder(file)
    if file.suffix.lower() in _MODELS and file.exists():
        from allmend.planning.models import plan_model_file

        return plan_model_file(file)
    if not file.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+(?:@[\w./-]+)?", thing) and file.suffix.lower() not in (
        ".ipynb", *_SCRIPTS
    ):  # fmt: skip
        from allmend.planning.models import plan_model_reference

        return plan_model_reference(thing)
    if not file.exists():
        raise NotFound(
            "there is no such file", where=thing, hint="Give a path, a link, a folder, - or OWNER/NAME of a model."
        )
    return _read(file, thing, settings)


def _read(file: Path, thing: str, settings: PlanSettings) -> Plan:
    nearby = beside(file.parent)
    reader = _reader(nearby, settings)
    kind: Kind = "script" if file.suffix.lower() in _SCRIPTS else "notebook"
    return plan_notebook(read(file), path=thing, kind=kind, reader=reader)


def _reader(nearby: Reader | None, settings: PlanSettings) -> Reader:
    """Beside the notebook first, then fetched repositories; with `follow`, what is missing is fetched."""
    reader = cached(nearby, follow=settings.follow)
    return following(reader) if settings.follow else reader


def _document(data: bytes, name: str, folder: Path | None, settings: PlanSettings) -> Plan:
    nearby = beside(folder) if folder is not None else None
    reader = _reader(nearby, settings)
    kind: Kind = "notebook" if data[:4096].lstrip()[:1] == b"{" else "script"
    return plan_notebook(read_bytes(data, name=name), path=name, kind=kind, reader=reader)


def _folder(folder: Path) -> Plan:
    from allmend.planning.models import looks_like_model, plan_model_folder

    if looks_like_model(folder):
        return plan_model_folder(folder)
    from allmend.planning.folders import plan_folder

    return plan_folder(folder)
