"""Filling a folder with packages by uv: this machine's index settings passed on, wheels only, by rename.

Wheels only, because this runs outside a box: a source distribution's build script would be foreign code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from allmend.box import owner
from allmend.box.owner import Operator
from allmend.errors import FetchError, Unavailable
from allmend.models.index import default_index

DATED = "2026-11-01"
"""The day the profiles' lists were fixed; an index that knows upload times is asked for nothing newer."""
_SECONDS = 3600


def cache() -> Path:
    """Where profiles and requirement sets are kept."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "allmend" / "environments"


def key(*parts: object) -> str:
    """A short digest naming a built folder."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:24]


_KEPT = (
    *("PATH", "HOME", "XDG_CACHE_HOME", "UV_CACHE_DIR", "SSL_CERT_DIR", "TMPDIR"),
    *("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"),
)


def uv_command(python: str, site: Path, operator: Operator) -> tuple[list[str], dict[str, str]]:
    """uv's command and environment for filling `site`."""
    uv = shutil.which("uv") or _bundled_uv()
    command = [uv, "pip", "install", "--python", python, "--target", str(site), "--no-config"]
    command += ["--only-binary", ":all:", "--compile-bytecode"]
    command += ["--no-index"] if operator.settings.get("no-index") else []
    command += ["--exclude-newer", f"{DATED}T23:59:59Z"] if _knows_times(operator) else []
    variables = owner.uv_variables(operator.settings)
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return command, {**kept, **variables, **operator.certificates}


def _knows_times(operator: Operator) -> bool:
    """Only the public index is known to tell upload times; uv refuses packages of an index that does not."""
    settings = operator.settings
    plain = settings.get("index-url") in (None, [default_index()])
    return plain and not settings.get("extra-index-url") and not settings.get("find-links")


def uv_program() -> str | None:
    """The uv that is shown inside for `!uv pip install`, if there is one."""
    try:
        return os.path.realpath(shutil.which("uv") or _bundled_uv())
    except Unavailable:
        return None


def _bundled_uv() -> str:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise Unavailable("uv is not installed", hint="pip install uv") from None


class NotInstallable(FetchError):
    """uv could not install a set; `said` is the reason as it gave it."""

    def __init__(self, what: str, said: str) -> None:
        super().__init__(
            f"{what} could not be installed: {said}", hint="Check pip's index settings: `pip config list`."
        )
        self.said = said

    @property
    def for_now(self) -> bool:
        """Whether another try may do better: the index could not be reached."""
        return re.search(r"failed to fetch|error sending request|timed out|longer than", self.said, re.I) is not None


def install(
    requirements: Sequence[str],
    site: Path,
    python: str,
    operator: Operator,
    what: str,
    left_out: Sequence[str] = (),
    *,
    only_resolve: bool = False,
) -> None:
    """Fill `site`, so that it is there whole or not at all; one that another run has made meanwhile is kept.

    `left_out` are names that are there already and are not installed again. Raises `NotInstallable`.
    """
    site.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=site.parent))
    listed = temporary.with_name(f"{temporary.name}.excludes")
    try:
        command, variables = uv_command(python, temporary, operator)
        command += ["--dry-run"] if only_resolve else []
        if left_out:
            listed.write_text("\n".join(left_out) + "\n")
            command += ["--excludes", str(listed)]
        try:
            done = subprocess.run(
                [*command, *requirements],
                cwd=site.parent,
                env=variables,
                capture_output=True,
                text=True,
                check=False,
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise NotInstallable(what, f"it took longer than {_SECONDS // 60} minutes") from None
        if done.returncode != 0:
            raise NotInstallable(what, _reason(done.stderr))
        if only_resolve or site.exists():
            return
        temporary.chmod(0o755)
        temporary.rename(site)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        listed.unlink(missing_ok=True)


def _reason(said: str) -> str:
    """uv's own words in one line, without its drawing."""
    words = re.sub(r"[^\x20-\x7e\n]", " ", said).split()
    text = " ".join(words)
    start = text.find("Because")
    return (text[start:] if start >= 0 else text)[:600]
