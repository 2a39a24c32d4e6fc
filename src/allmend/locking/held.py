"""What a box is made from when a run is held to a lock: the locked packages, and the cache in the world's place."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from allmend.box import installing
from allmend.box.environment import Environment
from allmend.box.owner import Operator
from allmend.errors import FetchError, Refused
from allmend.locking import certificates, environment, restore, store
from allmend.locking.upstream import Upstream, free_of_leftovers
from allmend.nouns.lock import Lock

if TYPE_CHECKING:
    from allmend.box.box import Box

_INSIDE = Path(__file__).parent / "inside"
_TRUST = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS", "PIP_CERT")

_SYSTEM_TRUST = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


@dataclass
class Held:
    """A lock made ready for one run; a context manager around the run."""

    lock: Lock
    environment: Environment
    operator: Operator
    """Instead of this machine's own grants: no index, no host, the authority's certificate."""
    upstream: Upstream
    uv: str
    """The uv that the notebook finds."""
    notes: list[str] = field(default_factory=list)
    _open: ExitStack = field(default_factory=ExitStack)

    @property
    def outside(self) -> dict[str, Any]:
        """The box's way out: settings of `box.settings.Settings`."""
        return {"resolver": self.upstream.resolve, "connect": self.upstream.connect}

    @property
    def digest(self) -> str:
        """SHA-256 of the lock."""
        return hashlib.sha256(self.lock.to_json().encode()).hexdigest()

    def listen(self, box: Box) -> None:
        """Tell the box's record what the cache refuses."""

        def refused(url: str, why: str) -> None:
            box.record.add("host", url, "denied", source="lock", detail=why, advice="`allmend lock` takes it in.")

        self.upstream.refusal = refused

    def __enter__(self) -> Self:
        self._open.enter_context(self.upstream)
        self.upstream.folder.chmod(0o711)
        if self.lock.system:
            folder = _packages(self.lock, self.upstream.folder / "debs")
            self.operator.folders.append(str(folder))
            self.operator.given["ALLMEND_LOCKED_DEBS"] = str(folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def ready(lock: Lock, machine: Operator, tell: Callable[[str], None] = lambda text: None) -> Held:
    """Bring what the cache lacks, and put the environment together.

    Args:
        machine: this machine's index settings, used only where a package has to be fetched or built again.

    Raises:
        Unavailable: another interpreter or kind of machine.
        FetchError, NotFound: something is not in the cache and is not upstream as it was; says what and since when.
        Refused: the environment beneath has changed.
    """
    environment.check_interpreter(lock)
    store.ready()
    lacking = restore.missing(lock)
    if lacking:
        tell(f"fetching what the cache lacks: {', '.join(lacking[:3])}" + (" …" if len(lacking) > 3 else ""))
        try:
            restore.everything(lock)
        except FetchError as error:
            if "changed upstream" in error.message or "not what the hub" in error.message:
                raise Refused(error.message, where=error.where, hint=error.hint) from None
            raise
    chosen = environment.environment(lock, machine, tell)
    stand_in = _stand_in(lock)
    chosen = environment.in_front(chosen, (str(stand_in),))
    authority = str(certificates.authority())
    operator = Operator(
        folders=[authority],
        settings={"no-index": ["true"]},
        certificates=dict.fromkeys(_TRUST, authority),
        given={"UV_OFFLINE": "1", "UV_NO_INDEX": "1", "WGETRC": str(stand_in / "wgetrc")},
        # Programs that read only the system's own list.
        overlays={path: authority for path in _SYSTEM_TRUST if Path(path).is_file() and not Path(path).is_symlink()},
    )
    notes = [f"cell {one.cell}: {one.what} is not locked and will be refused ({one.why})" for one in lock.unlocked]
    free_of_leftovers()
    return Held(lock, chosen, operator, Upstream(lock), str(stand_in / "uv"), notes)


_UV = """\
#!/bin/sh
if [ "$1" = pip ]; then shift; exec python -m pip "$@"; fi
echo "allmend: in a locked run uv installs nothing; only 'uv pip' answers, from the lock" >&2
exit 1
"""


def _stand_in(lock: Lock) -> Path:
    """The pip and uv of a lock, written once."""
    listed = {
        "packages": {one.name: one.version for one in lock.packages},
        "asks": [*lock.asks, *(f"pip {_address(one)}" for one in lock.packages if one.via in ("url", "git"))],
    }
    text = json.dumps(listed, sort_keys=True)
    source = max(path.stat().st_mtime_ns for path in _INSIDE.rglob("*.py"))
    folder = store.folder() / "pip" / installing.key(text, source, str(certificates.authority()))
    if not (folder / "locked.json").exists():
        temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
        shutil.copytree(_INSIDE, temporary, ignore=shutil.ignore_patterns("__pycache__"))
        (temporary / "uv").write_text(_UV)
        (temporary / "uv").chmod(0o755)
        (temporary / "wgetrc").write_text(f"ca_certificate = {certificates.authority()}\n")
        (temporary / "locked.json").write_text(text)
        try:
            temporary.rename(folder)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)  # another run was faster
    return folder


def _address(package: object) -> str:
    from allmend.nouns.lock import LockedPackage

    assert isinstance(package, LockedPackage)
    return f"git+{package.url}" if package.via == "git" else package.url


def _packages(lock: Lock, folder: Path) -> Path:
    """The locked packages of apt under their own names, with the list of what is there."""
    folder.mkdir()
    there = []
    for one in lock.system:
        path = store.checked(one.sha256) if one.sha256 else None
        if path is None and one.url:
            raise FetchError(
                f"the apt package {one.name} {one.version} is missing from the cache, or damaged there",
                where=one.url, hint="`allmend lock` fetches it again where the mirror still has it.",
            )  # fmt: skip
        if path is not None:
            shutil.copyfile(path, folder / f"{one.name}.deb")
        there.append(f"{one.name} {one.version}")
    (folder / "locked").write_text("\n".join(there) + "\n")
    folder.chmod(0o755)
    return folder
