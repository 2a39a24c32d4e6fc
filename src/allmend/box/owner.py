"""What this machine's owner grants to every run, outside what a notebook asks: the package index.

pip's own configuration (files and environment) is read, its folders shown read-only, its hosts reachable
whatever their
address is, and passed on to pip, uv and apt inside. URLs with credentials are never passed on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from allmend.models.index import default_index, pip_values, uses_no_index

_FILES_OF = {"pypi.org": ("files.pythonhosted.org",)}
_KEYS = ("index-url", "extra-index-url", "find-links", "trusted-host")
_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass
class Operator:
    """The owner's grants."""

    hosts: list[str] = field(default_factory=list)
    """`name:port`, reachable whatever the address."""
    folders: list[str] = field(default_factory=list)
    """Shown read-only at their own place."""
    settings: dict[str, list[str]] = field(default_factory=dict)
    """pip's settings as they are passed on."""
    certificates: dict[str, str] = field(default_factory=dict)
    """Variable to file."""
    given: dict[str, str] = field(default_factory=dict)
    """More variables for inside: what a locked run answers from."""
    overlays: dict[str, str] = field(default_factory=dict)
    """Files shown in the place of this system's own, at level A: target to source."""
    notes: list[str] = field(default_factory=list)
    """What was not passed on, and why."""

    @property
    def grants(self) -> list[str]:
        """For the receipt."""
        return [f"host {host}" for host in self.hosts] + [f"folder {folder}" for folder in self.folders]

    def pip_conf(self) -> str:
        """A pip.conf for inside."""
        lines = ["[global]", "disable-pip-version-check = true", "no-input = true"]
        lines += [f"{key} = {' '.join(values)}" for key, values in self.settings.items() if values]
        return "\n".join(lines) + "\n"

    def variables(self, places_run: str, layer: str) -> dict[str, str]:
        """The environment variables for pip and uv."""
        found = {
            "PIP_CONFIG_FILE": f"{places_run}/pip.conf",
            "PIP_NO_CACHE_DIR": "1",
            "UV_CACHE_DIR": f"{layer}/.uv",
            "UV_LINK_MODE": "copy",
            "UV_PYTHON_DOWNLOADS": "never",
            **self.certificates,
        }
        found.update(uv_variables(self.settings))
        return found | self.given


def uv_variables(settings: Mapping[str, list[str]]) -> dict[str, str]:
    """uv does not read pip's configuration; the same settings in its own variables."""
    # pip trusts all its indexes alike; uv would stop at the first that knows a name.
    found = {"UV_INDEX_STRATEGY": "unsafe-best-match"} if settings.get("extra-index-url") else {}
    if settings.get("index-url"):
        found["UV_DEFAULT_INDEX"] = settings["index-url"][0]
    if settings.get("extra-index-url"):
        found["UV_INDEX"] = " ".join(settings["extra-index-url"])
    if settings.get("find-links"):
        found["UV_FIND_LINKS"] = " ".join(settings["find-links"])
    if settings.get("trusted-host"):
        found["UV_INSECURE_HOST"] = " ".join(settings["trusted-host"])
    if settings.get("cert"):
        found["SSL_CERT_FILE"] = settings["cert"][0]
    return found


def read(environment: Mapping[str, str] | None = None, apt: Path = Path("/etc/apt")) -> Operator:
    """This machine's package index settings."""
    environment = os.environ if environment is None else environment
    values = pip_values(environment)
    raw = {key: values.get(key, "").split() for key in _KEYS}
    operator = Operator()
    if uses_no_index(values):
        operator.settings["no-index"] = ["true"]
    else:
        urls = raw["index-url"] or [default_index()]
        _take(operator, "index-url", urls[:1])
        _take(operator, "extra-index-url", raw["extra-index-url"])
    _take(operator, "find-links", raw["find-links"])
    if raw["trusted-host"]:
        operator.settings["trusted-host"] = raw["trusted-host"]
    for variable in _CERTIFICATES:
        _certificate(operator, variable, environment.get(variable))
    if values.get("cert"):
        operator.settings["cert"] = [values["cert"]]
        _certificate(operator, "PIP_CERT", values["cert"])
    _apt(operator, apt)
    operator.hosts = list(dict.fromkeys(operator.hosts))
    operator.folders = list(dict.fromkeys(operator.folders))
    return operator


def _certificate(operator: Operator, variable: str, path: str | None) -> None:
    if path and Path(path).is_file():
        operator.certificates[variable] = path
        operator.folders.append(path)


def _take(operator: Operator, key: str, urls: list[str]) -> None:
    kept = []
    for url in urls:
        if "://" not in url:
            path = Path(url).expanduser()
            if path.exists():
                operator.folders.append(str(path))
                kept.append(str(path))
            continue
        split = urlsplit(url)
        if split.scheme == "file":
            path = Path(unquote(split.path))
            if path.exists():
                # Pages of a file index often point to a folder beside them.
                operator.folders.append(str(path))
                for target in _linked_folders(path):
                    operator.folders.append(target)
                kept.append(url)
        elif split.username or split.password:
            operator.notes.append(f"{split.hostname}: its address holds credentials, which are not passed into the box")
        elif split.hostname and split.scheme in ("http", "https"):
            port = split.port or (443 if split.scheme == "https" else 80)
            operator.hosts.append(f"{split.hostname.lower()}:{port}")
            operator.hosts += [f"{name}:443" for name in _FILES_OF.get(split.hostname.lower(), ())]
            kept.append(url)
    if kept:
        operator.settings[key] = kept


def _linked_folders(simple: Path) -> list[str]:
    """The folders a `simple` folder's pages point to, from the first page that has links."""
    for page in sorted(simple.glob("*/index.html"))[:3]:
        try:
            text = page.read_text(errors="replace")[:20_000]
        except OSError:
            continue
        for link in re.findall(r'href="([^"#]+)', text)[:1]:
            if link.startswith("file://"):
                return [str(Path(unquote(urlsplit(link).path)).parent)]
            target = (page.parent / unquote(link)).resolve()
            if target.exists() and not target.is_relative_to(simple):
                return [str(simple.parent)]
    return []


def _apt(operator: Operator, folder: Path) -> None:
    """apt's sources: plain http and https ones without credentials."""
    texts = []
    for file in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))):
        try:
            if file.suffix in (".list", ".sources"):
                texts.append(file.read_text(errors="replace"))
        except OSError:
            continue
    for url in re.findall(r"https?://\S+", "\n".join(re.sub(r"^\s*#.*$", "", t, flags=re.MULTILINE) for t in texts)):
        split = urlsplit(url)
        if split.username or split.password:
            operator.notes.append(
                f"{split.hostname}: an apt source with credentials, which are not passed into the box"
            )
        elif split.hostname:
            operator.hosts.append(f"{split.hostname.lower()}:{split.port or (443 if split.scheme == 'https' else 80)}")
