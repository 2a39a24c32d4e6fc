"""Which hosts the effects would talk to, and the families that those hosts redirect into."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from allmend.nouns.plan import Effect, HostUse
from allmend.planning.effects.targets import host_of

_BY_PREFIX = {
    ("install", "pip"): "pypi", ("install", "conda"): "conda", ("install", "apt"): "ubuntu", ("install", "npm"): "npm",
    ("model", "hf"): "huggingface", ("dataset", "hf"): "huggingface", ("foreign_code", "hf"): "huggingface",
    ("dataset", "kaggle"): "kaggle", ("model", "kaggle"): "kaggle", ("dataset", "keras"): "keras", ("model", "keras"): "keras",
    ("dataset", "tfds"): "google-storage", ("dataset", "torchvision"): "torchvision", ("model", "torchvision"): "torchvision",
    ("dataset", "sklearn"): "sklearn", ("dataset", "fastai"): "fastai", ("dataset", "nltk"): "nltk", ("model", "spacy"): "spacy",
    ("dataset", "roboflow"): "roboflow", ("dataset", "wandb"): "wandb", ("model", "clip"): "openai-weights",
    ("model", "whisper"): "openai-weights", ("model", "ultralytics"): "ultralytics", ("model", "ollama"): "ollama",
    ("download", "gdrive"): "google-drive",
}  # fmt: skip
_WHOLE = {"google-drive": "google-drive", "google-account": "google-account", "huggingface": "huggingface", "wandb": "wandb",
          "kaggle": "kaggle", "gradio-share": "gradio-share", "ngrok": "ngrok", "cloudflared": "cloudflared",
          "localtunnel": "localtunnel", "google-cloud-storage": "google-storage"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """A service: the hosts that are asked, the hosts that serve for them, and where that is written."""

    name: str
    hosts: tuple[str, ...]
    serves: tuple[str, ...]
    source: str


@cache
def families() -> dict[str, Family]:
    """Every family of `tables/hosts.toml`, by name."""
    text = resources.files("allmend.planning").joinpath("tables", "hosts.toml").read_text("utf-8")
    rows = tomllib.loads(text)["family"]
    return {row["name"]: Family(row["name"], tuple(row["hosts"]), tuple(row["serves"]), row["source"]) for row in rows}


@cache
def family_of(host: str) -> Family | None:
    """The family that `host` belongs to: the one that is asked there, else the one that is served from there."""
    host = host.lower()
    for family in families().values():
        if host in family.hosts:
            return family
    for family in families().values():
        if any(host == name or (name.startswith(".") and host.endswith(name)) for name in family.serves):
            return family
    return None


def hosts_of(effects: list[Effect]) -> list[HostUse]:
    """One row a host, in order of name: its family and the targets that need it."""
    needed: dict[str, tuple[str | None, dict[str, None]]] = {}

    def need(host: str, family: str | None, target: str) -> None:
        host = "*" + host if host.startswith(".") else host
        if re.fullmatch(r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+", host):
            needed.setdefault(host, (family, {}))[1][target] = None

    for effect in effects:
        for host, family in _asked(effect):
            if family is None:
                need(host, None, effect.target)
                continue
            need(host, family.name, effect.target)
            for other in family.serves:
                need(other, family.name, effect.target)
    return [
        HostUse(host=host, family=family, **{"for": list(targets)[:50]})
        for host, (family, targets) in sorted(needed.items())
    ]


def _asked(effect: Effect) -> Iterator[tuple[str, Family | None]]:
    if effect.kind not in (
        "install",
        "clone",
        "download",
        "model",
        "dataset",
        "foreign_code",
        "credential",
        "send",
        "serve",
    ):
        return
    target = effect.target
    prefix, sign, rest = target.partition(":")
    if effect.kind == "install" and sign and prefix == "pip" and effect.detail.get("source") in ("git", "url", "path"):
        yield from _url(rest)
        return
    name = _BY_PREFIX.get((effect.kind, prefix)) if sign else None
    if name is None and effect.kind in ("credential", "send", "serve"):
        name = _WHOLE.get(target) or (target if effect.kind == "send" and target in families() else None)
    if name is not None:
        family = families()[name]
        for host in family.hosts[:1]:
            yield host, family
        return
    if effect.kind == "send" and "." in target and " " not in target and "/" not in target:
        yield target.lower(), family_of(target.lower())
        return
    yield from _url(target)


def _url(text: str) -> Iterator[tuple[str, Family | None]]:
    host = host_of(re.sub(r"^(?:git|hg|svn|-r )\+?", "", text)) or host_of(text)
    if host and "{" not in host and "$" not in host:
        yield host, family_of(host)


__all__ = ["Family", "families", "family_of", "hosts_of"]
