"""The Python package index that this machine's owner configured, and files on it.

pip's own settings are read (files and `PIP_*` variables: index, extra indexes, find-links, certificates, trusted
hosts), so a mirror, a local folder or a login set up for pip works here. Files are found with unearth and
downloaded as plain files: no package is installed, built or imported.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from allmend.errors import FetchError, NotFound, Unavailable

if TYPE_CHECKING:
    from unearth import PackageFinder


@dataclass(frozen=True)
class IndexSettings:
    """Where packages come from, as pip is configured.

    `index_urls` are in order of preference; `find_links` are folders or pages of files.
    """

    index_urls: tuple[str, ...]
    find_links: tuple[str, ...]
    cert: str | None
    client_cert: str | None
    trusted_hosts: tuple[str, ...]
    timeout: float


def pip_settings(environ: Mapping[str, str] | None = None) -> IndexSettings:
    """Read pip's configuration files, lowest precedence first, then `PIP_*` variables."""
    values = pip_values(environ)
    if uses_no_index(values):
        urls: list[str] = []
    else:
        urls = [values.get("index-url") or default_index(), *values.get("extra-index-url", "").split()]
    return IndexSettings(
        index_urls=tuple(url for url in urls if url),
        find_links=tuple(values.get("find-links", "").split()),
        cert=values.get("cert"),
        client_cert=values.get("client-cert"),
        trusted_hosts=tuple(values.get("trusted-host", "").split()),
        timeout=_seconds(values.get("timeout") or values.get("default-timeout") or "30"),
    )


def pip_values(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """pip's settings by their long names, as it would take them for an install."""
    environ = os.environ if environ is None else environ
    values: dict[str, str] = {}
    for path in _config_files(environ):
        values |= _read_file(path)
    for name, value in environ.items():
        # An empty variable is as none, to pip too.
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE" and value:
            values[name[4:].lower().replace("_", "-")] = value
    return values


def uses_no_index(values: Mapping[str, str]) -> bool:
    """Whether pip's settings forbid every index."""
    return values.get("no-index", "").lower() in {"1", "true", "t", "yes", "y", "on"}


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Unavailable(f"pip's timeout {text!r} is not a number", hint="See `pip config list`.") from None


def _config_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """The files pip reads on Linux and macOS, in pip's order; `PIP_CONFIG_FILE` comes last, devnull means none."""
    named = environ.get("PIP_CONFIG_FILE")
    home = Path(environ.get("HOME") or Path.home())
    if named == os.devnull:
        return
    for folder in reversed(environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")):
        yield Path(folder) / "pip" / "pip.conf"
    yield Path("/etc/pip.conf")
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
        yield home / "Library/Application Support/pip/pip.conf"
    yield home / ".pip" / "pip.conf"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield Path(sys.prefix) / "pip.conf"
    if named:
        yield Path(named)


def _read_file(path: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        # pip itself refuses such a file with its own message; what we need may stand in another one.
        return {}
    values: dict[str, str] = {}
    for section in ("global", "install", "download"):
        if parser.has_section(section):
            values |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    return values


def default_index() -> str:
    """The index pip uses when nobody configured one; empty where neither pip nor Python's own copy of it is here."""
    try:
        from pip._internal.models.index import PyPI
    except ImportError:
        return _index_of_bundled_pip()
    return str(PyPI.simple_url)


def _index_of_bundled_pip() -> str:
    """What the pip says that Python carries for new environments: uv makes environments without one."""
    import zipimport
    from importlib.util import module_from_spec

    try:
        import ensurepip
    except ImportError:  # Debian leaves it out
        return ""
    for wheel in sorted(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")):
        try:
            spec = zipimport.zipimporter(f"{wheel}/pip/_internal/models").find_spec("index")
            if spec is not None and spec.loader is not None:
                module = module_from_spec(spec)
                spec.loader.exec_module(module)
                return str(module.PyPI.simple_url)
        except (ImportError, AttributeError):  # a later pip that keeps it elsewhere
            continue
    return ""


class PackageIndex:
    """Finds and opens distribution files."""

    def __init__(self, settings: IndexSettings | None = None) -> None:
        self.settings = settings or pip_settings()
        if not self.settings.index_urls and not self.settings.find_links:
            raise Unavailable(
                "no package index is configured and pip, whose default would be used, is not installed here",
                hint="Set PIP_INDEX_URL, or `pip config set global.index-url …`.",
            )
        self._finder = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def _open(self) -> PackageFinder:
        import ssl

        from unearth import PackageFinder
        from unearth.fetchers import PyPIClient

        settings = self.settings
        try:
            verify: Any = ssl.create_default_context(cafile=settings.cert) if settings.cert else True
        except (OSError, ssl.SSLError) as error:
            raise Unavailable(f"pip's certificate file {settings.cert} cannot be read: {error}") from None
        self._client = client = PyPIClient(
            trusted_hosts=settings.trusted_hosts,
            verify=verify,
            cert=settings.client_cert,
            timeout=settings.timeout,
            follow_redirects=True,
        )
        return PackageFinder(
            session=client,  # type: ignore[arg-type]  # unearth types its own client more narrowly than it is
            index_urls=settings.index_urls,
            find_links=settings.find_links,
            ignore_compatibility=True,
        )

    def locate(self, package: str, version: str, file: str) -> str:
        """The address of one distribution file.

        Raises:
            NotFound: the index answers, and does not have it.
            FetchError: the index does not answer.
        """
        try:
            found = list(self._finder.find_all_packages(package, allow_yanked=True))
        except Exception as error:  # the client's own and unearth's errors share no base
            raise _unreachable(package, error) from error
        for candidate in found:
            if candidate.link.filename == file:
                return str(candidate.link.url_without_fragment)
        have = sorted({str(candidate.version) for candidate in found})
        raise NotFound(
            f"the package index has no file {file} ({package} {version})",
            hint=f"It offers: {', '.join(have[-5:])}." if have else "Check pip's index settings: `pip config list`.",
        )

    def open(self, url: str, start: int = 0) -> Any:
        """A streamed response for `url` from byte `start`; a context manager with `.status_code`, `.iter_bytes()`."""
        headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"} if start else {}
        return self._finder.session.get_stream(url, headers=headers)


def _unreachable(package: str, error: Exception) -> FetchError:
    return FetchError(
        f"the package index could not be asked for {package}: {type(error).__name__}: {error}",
        hint="Check the network and pip's settings (`pip config list`), then run the same command again.",
    )
