"""From what a person writes after `NAME=` to an adapter: a folder, a run, or a name on a hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from allmend.errors import FetchError, InputError, NotFound, Refused, UsageError
from allmend.serving.lookups import Unreached

if TYPE_CHECKING:
    from allmend.adapters import AdapterWeights

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@-]{0,199}")
_HUB = re.compile(r"(?:hub://(?P<host>[^/\s]+)/)?(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_NAME_ON_DEMAND = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:-]{0,199}")
_CONFIG = "adapter_config.json"
_FILES = [_CONFIG, "adapter_model.safetensors", "chat_template.jinja", "allmend.json"]
_LARGEST = 8 << 30
"""Bytes of an adapter that are fetched; more would not be read."""
_IN_RELEASE = [f"adapter/{name}" for name in _FILES]
"""Where a release of `allmend ship` has them."""


def split(text: str) -> tuple[str, str]:
    """`NAME=REF` as (name, reference); raises `UsageError`."""
    name, separator, reference = text.partition("=")
    if not separator or not name or not reference:
        raise UsageError(f"{text!r} is not NAME=REF", where="--adapter", hint="Like: --adapter mine=last:tune")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be an adapter's name", where="--adapter", hint="Letters, digits and . _ - / @ only."
        )
    return name, reference


def split_fallback(text: str) -> tuple[str, str]:
    """`MODEL=OTHER` as both; raises `UsageError`."""
    model, separator, other = text.partition("=")
    if not separator or not model or not other:
        raise UsageError(f"{text!r} is not MODEL=OTHER", where="--fallback", hint="Like: --fallback mine=gemma-3-270m")
    return model, other


def read(reference: str) -> AdapterWeights:
    """The adapter that `reference` stands for, read and checked.

    Raises:
        NotFound, FetchError, Refused: it cannot be had.
        InputError: it is there and cannot be used.
    """
    from allmend import adapters

    return adapters.read(folder_of(reference))


def on_demand(folder: Path | None) -> Callable[[str], AdapterWeights]:
    """What finds adapters by the names that requests use: in `folder`, among runs, on a hub; never another path."""

    def fetch(name: str) -> AdapterWeights:
        from allmend import adapters

        if not _NAME_ON_DEMAND.fullmatch(name) or ".." in name:
            raise NotFound("it is no name of an adapter")
        if folder is not None:
            inside = (folder / name).resolve()
            if inside.is_relative_to(folder.resolve()) and (inside / _CONFIG).is_file():
                return adapters.read(inside)
        hub = _HUB.fullmatch(name)
        if hub is None:
            return adapters.read(_of_run(name))
        # Another hub than the configured one is for the command line: a client must not send this server anywhere.
        try:
            return adapters.read(_of_hub(hub["name"], hub["revision"], None))
        except FetchError as error:
            # To who asked, a name that is not here and cannot be looked up is a name that is not found.
            raise Unreached(error.message) from None

    return fetch


def folder_of(reference: str) -> Path:
    """Where the adapter's files are; a hub's are fetched. A path that exists wins, then a run, then a hub's name."""
    path = Path(reference).expanduser()
    if path.is_dir():
        return path if (path / _CONFIG).is_file() or not (path / "adapter").is_dir() else path / "adapter"
    if reference.startswith(("./", "../", "/", "~")):
        raise NotFound(f"there is no folder {reference}", where="--adapter")
    hub = _HUB.fullmatch(reference)
    if hub is None:
        return _of_run(reference)
    return _of_hub(hub["name"], hub["revision"], hub["host"])


def _of_run(reference: str) -> Path:
    from allmend import runs

    run = runs.show(reference)
    candidates = [Path(output.path) for output in run.outputs if output.name.startswith("adapter")]
    candidates.append(Path(run.folder) / "adapter")
    for folder in candidates:
        if (folder / _CONFIG).is_file():
            return folder
    raise NotFound(
        f"the run {run.id} has no adapter", hint=f"It is {run.state}; `allmend runs show {run.id}` says more."
    )


def _of_hub(name: str, revision: str | None, host: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    shown = f"{name}@{revision}" if revision else name
    endpoint = None
    if host is not None:
        local = host.split(":")[0] in ("localhost", "127.0.0.1", "[::1]")
        endpoint = f"{'http' if local else 'https'}://{host}"
    wanted = [*_FILES, *_IN_RELEASE]
    try:
        size = _stated_size(name, revision, endpoint, wanted)
        if size > _LARGEST:
            raise InputError(
                f"the hub states {size} bytes for {shown}; at most {_LARGEST} are taken", where="--adapter"
            )
        folder = Path(snapshot_download(name, revision=revision, endpoint=endpoint, allow_patterns=wanted))
    except RepositoryNotFoundError as error:
        if error.__class__.__name__ == "GatedRepoError":
            raise Refused(f"{shown} asks you to accept its terms and log in first", where="--adapter") from None
        raise NotFound(f"the hub has no adapter {shown}, or you are not logged in", where="--adapter") from None
    except LocalEntryNotFoundError:
        raise FetchError(f"the hub was not reached for {shown}, and it is not here", where="--adapter") from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise FetchError(f"{shown} could not be fetched: {str(error).splitlines()[0]}", where="--adapter") from None
    if not (folder / _CONFIG).is_file() and (folder / "adapter" / _CONFIG).is_file():
        return folder / "adapter"
    if not (folder / _CONFIG).is_file():
        raise InputError(f"{shown} is no adapter: it has no {_CONFIG}", where="--adapter")
    return folder


def _stated_size(name: str, revision: str | None, endpoint: str | None, wanted: list[str]) -> int:
    """Bytes of the files as the hub states them; 0 where it does not, or is not reached and they may be here."""
    from huggingface_hub import HfApi

    try:
        stated = HfApi(endpoint=endpoint).model_info(name, revision=revision, files_metadata=True, timeout=10)
    except Exception:
        return 0  # Offline, refused, no such name: what fetches the files says what is wrong.
    return sum(file.size or 0 for file in stated.siblings or () if file.rfilename in wanted)
