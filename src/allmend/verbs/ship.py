"""`allmend ship`: what leaves is what was tested, or it does not leave."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from allmend.verbs.settings import Settings
from allmend.verbs.watching import SILENT, Watch

if TYPE_CHECKING:
    from allmend.nouns.release import Release, Verification


def _split(value: Any) -> Any:
    """`q8_0,q4_k_m`, or several of them."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return value
    return tuple(word.strip() for part in parts for word in str(part).split(",") if word.strip())


class ShipSettings(Settings):
    """Settings of `allmend ship`."""

    merge: bool = False
    """Also the merged model, as safetensors."""

    gguf: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    """Also GGUF files of the merged model in these types (q8_0,q4_k_m), and one of the adapter."""

    to: str | None = None
    """The folder to make; release-RUN here when not given. Or a place on a hub, to which that folder is then uploaded:
    hub://HOST/OWNER/NAME, or OWNER/NAME where HF_ENDPOINT is set."""

    sign: Path | None = None
    """Sign it with this private key (PEM, P-256); `allmend ship key FILE` makes one."""

    container: bool = False
    """Also a build context for containers and for Cog; includes the merged model."""

    adapter: str = "adapter"
    """Which adapter of the run: adapter (the best) or adapter-last."""

    data: Path | None = None
    """Rows to compare on instead of the run's own held-out rows."""

    prompts: int = Field(32, ge=1, le=10_000)
    """Held-out prompts that every artefact is asked."""

    licence: Path | None = None
    """The base's licence, where no copy lies beside it."""


def ship(
    run: str,
    *,
    merge: bool = False,
    gguf: str | Sequence[str] = (),
    to: str | Path | None = None,
    sign: str | Path | None = None,
    container: bool = False,
    adapter: str = "adapter",
    data: str | Path | None = None,
    prompts: int = 32,
    licence: str | Path | None = None,
    watch: Watch = SILENT,
) -> Release:
    """Make a release from a tune run; see `ShipSettings` for the keywords.

    Args:
        run: a run's id, its beginning, or `last`.

    Raises:
        Refused: an artefact is not what was tested, or the base's licence cannot be passed on; nothing is left behind.
        NotFound, InputError: the run, its adapter, base or rows are not there or not what they were.
        UsageError: an unknown GGUF type.
        DoesNotFit: no room on the disk.
        FetchError: it was made, and the hub that `to` names did not take it.
    """
    values = {name: value for name, value in locals().items() if name not in {"run", "watch"}}
    values["to"] = None if to is None else str(to)
    from allmend.models.publishing import is_target, publish
    from allmend.verbs.ship_work import folder_of, work

    settings = ShipSettings.of(values)
    if settings.to is None or not is_target(settings.to):
        return work(run, settings, watch)
    release = work(run, settings.model_copy(update={"to": None}), watch)
    publish(folder_of(None, release.run), settings.to, message=f"Release {release.name} of {release.run}")
    return release


def verify(folder: str | Path, *, key: str | Path | None = None) -> Verification:
    """Check every byte, statement and signature of a release, offline.

    Args:
        key: the public key that is trusted to have signed it.

    Raises:
        NotFound, InputError: it is no release.
    """
    from allmend.releases.verify import verify as check

    return check(Path(folder), Path(key) if key is not None else None)


def make_key(path: str | Path) -> Path:
    """Make a private key to sign with; returns the path of its public half."""
    from allmend.releases.signing import make_key as make

    return make(Path(path))
