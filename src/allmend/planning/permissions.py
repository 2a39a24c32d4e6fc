"""From a plan to the permissions it would need: what is ordinary, and what a person has to say yes to by name.

Ordinary are hosts of families that are known for what the plan wants from them, the folder for outputs and
local ports.
Secrets, Drive, accelerators, dangerous findings and hosts of no known family are careful: `--yes` does not
grant them.
The package index is not among them: it is a grant of this machine's owner.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from allmend.errors import AllmendError
from allmend.nouns.permissions import Permissions, check_host, covered
from allmend.nouns.plan import Effect, Plan

SERVED_BY: dict[str, tuple[str, ...]] = {
    "huggingface.co": ("*.huggingface.co", "*.hf.co"),
    "github.com": ("codeload.github.com", "*.githubusercontent.com"),
    "raw.githubusercontent.com": (),
    "gist.github.com": ("*.githubusercontent.com",),
    "gitlab.com": (),
    "drive.google.com": ("docs.google.com", "*.usercontent.google.com", "*.googleusercontent.com"),
    "docs.google.com": ("*.googleusercontent.com",),
    "storage.googleapis.com": (),
    "download.pytorch.org": (),
    "pytorch.org": ("download.pytorch.org",),
    "tfhub.dev": ("storage.googleapis.com", "www.kaggle.com"),
    "www.kaggle.com": ("kaggle.com", "storage.googleapis.com"),
    "kaggle.com": ("www.kaggle.com", "storage.googleapis.com"),
    "zenodo.org": (),
    "dl.fbaipublicfiles.com": (),
    "civitai.com": ("*.civitai.com",),
    "archive.org": ("*.archive.org",),
    "openml.org": ("*.openml.org",),
    "yann.lecun.com": (),
    "www.cs.toronto.edu": (),
    "files.grouplens.org": (),
    "archive.ics.uci.edu": (),
    "data.vision.ee.ethz.ch": (),
    "ndownloader.figshare.com": ("*.figshare.com", "*.amazonaws.com"),
    "figshare.com": ("*.figshare.com",),
    "modelscope.cn": ("*.modelscope.cn",),
}
"""Hosts of known families, with the hosts that serve files for them."""

PACKAGE_INDEXES = frozenset(
    {
        *("pypi.org", "files.pythonhosted.org", "test-files.pythonhosted.org", "pypi.python.org", "conda.anaconda.org"),
        *("deb.debian.org", "security.debian.org", "archive.ubuntu.com", "security.ubuntu.com"),
    }
)
"""Reached through the owner's own configuration, not through what a notebook asks."""

HOST_OF = {
    "hf": "huggingface.co",
    "huggingface": "huggingface.co",
    "gdrive": "drive.google.com",
    "kaggle": "www.kaggle.com",
    "tfds": "storage.googleapis.com",
    "keras": "storage.googleapis.com",
    "torchvision": "download.pytorch.org",
    "sklearn": "ndownloader.figshare.com",
    "roboflow": "api.roboflow.com",
    "wandb": "api.wandb.ai",
    "openai": "api.openai.com",
    "google-genai": "generativelanguage.googleapis.com",
}
"""Where the short names of targets (`hf:NAME`) and services lead."""

_FETCHES = frozenset({"download", "clone", "model", "dataset", "send"})

_SECRET_HOSTS = {
    "huggingface": ("HF_TOKEN", "huggingface.co"),
    "wandb": ("WANDB_API_KEY", "api.wandb.ai"),
    "kaggle": ("KAGGLE_KEY", "www.kaggle.com"),
}
_HOST_OF_SECRET = {
    "HF_TOKEN": "huggingface.co",
    "HUGGINGFACE_TOKEN": "huggingface.co",
    "HUGGING_FACE_HUB_TOKEN": "huggingface.co",
    "WANDB_API_KEY": "api.wandb.ai",
    "OPENAI_API_KEY": "api.openai.com",
    "ANTHROPIC_API_KEY": "api.anthropic.com",
    "GOOGLE_API_KEY": "generativelanguage.googleapis.com",
    "GEMINI_API_KEY": "generativelanguage.googleapis.com",
    "MISTRAL_API_KEY": "api.mistral.ai",
    "COHERE_API_KEY": "api.cohere.com",
    "KAGGLE_KEY": "www.kaggle.com",
    "GITHUB_TOKEN": "api.github.com",
}


@dataclass(frozen=True)
class Proposed:
    """One permission a plan asks for, as `--allow` writes it."""

    grant: str
    why: str
    careful: bool
    """Whether a person must grant it by name (`--yes` is not enough)."""
    incomplete: bool = False
    """Whether the person has to fill something in (`drive:FOLDER`)."""
    optional: bool = False
    """Whether the run may begin without it."""


def propose(plan: Plan, *, outputs: str | None = None) -> list[Proposed]:
    """What `plan` would need, ordinary grants first. `outputs` is the folder proposed to receive outputs."""
    found: list[Proposed] = []
    if outputs is not None:
        found.append(Proposed(f"write:{outputs}", "its outputs", careful=False))
    for host, why in _hosts(plan):
        found += _host(host, why)
    for effect in plan.effects:
        found += _effect(effect)
    found += [
        Proposed(
            f"finding:{finding.id}",
            f"{finding.title} (cells {', '.join(map(str, finding.cells)) or '-'})",
            careful=True,
        )
        for finding in plan.findings
        if finding.severity == "danger"
    ]
    unique: dict[str, Proposed] = {}
    for proposed in found:
        unique.setdefault(proposed.grant, proposed)
    return sorted(unique.values(), key=lambda proposed: proposed.careful)


def missing(proposals: Iterable[Proposed], permissions: Permissions) -> list[Proposed]:
    """The proposals that `permissions` do not cover."""
    return [proposed for proposed in proposals if not _granted(proposed.grant, permissions)]


def with_grants(permissions: Permissions, proposals: Iterable[Proposed]) -> Permissions:
    """`permissions` with the complete ones of `proposals`."""
    for proposed in proposals:
        if not proposed.incomplete:
            permissions = permissions.with_grant(proposed.grant)
    return permissions


def hosts_of(plan: Plan) -> dict[str, str]:
    """The hosts a plan needs, each with what for: those it lists, and those its effects name or stand for."""
    found = {use.host.lower(): ", ".join(use.for_[:3]) or use.family or "" for use in plan.hosts}
    for effect in plan.effects:
        if effect.certainty == "unknown" or effect.kind not in _FETCHES:
            continue
        scheme = effect.target.partition(":")[0]
        host = HOST_OF.get(scheme) or HOST_OF.get(effect.target)
        if "://" in effect.target:
            try:
                host = urlsplit(effect.target).hostname
            except ValueError:
                continue
        if host:
            found.setdefault(host.lower(), effect.target)
    return found


def serving(hosts: Iterable[str]) -> list[str]:
    """The hosts that serve files for `hosts`."""
    found = [other for host in hosts for other in SERVED_BY.get(host, ())]
    return [*found, *(["files.pythonhosted.org"] if "pypi.org" in hosts else [])]


TUNNELS = frozenset(("gradio-share", "ngrok", "cloudflared", "localtunnel", "npm:localtunnel"))
"""Ways to make a server public. In the box each becomes a link on this machine, and its hosts are asked for by nobody."""


def _hosts(plan: Plan) -> list[tuple[str, str]]:
    tunnels = {host.host.lower() for host in plan.hosts if host.for_ and TUNNELS.issuperset(host.for_)}
    found = hosts_of(plan).items()
    return [(host, why) for host, why in found if host not in PACKAGE_INDEXES and host not in tunnels]


def _host(host: str, why: str) -> list[Proposed]:
    try:
        check_host(host)
    except ValueError:
        return []  # an address, or no host at all: it stays refused
    ordinary = host in SERVED_BY or any(covered(host, list(others)) for others in SERVED_BY.values())
    found = [Proposed(f"host:{host}", why or "named in the plan", careful=not ordinary)]
    return found + [
        Proposed(f"host:{other}", f"serves files for {host}", careful=False) for other in SERVED_BY.get(host, ())
    ]


def _effect(effect: Effect) -> list[Proposed]:
    where = f"cell {effect.cell}"
    kind, _, value = effect.target.partition(":")
    if effect.kind == "credential":
        return _credential(effect, kind, value, where)
    if effect.kind == "personal_files" and kind == "drive":
        writes = effect.detail.get("mode") == "write"
        grant = "drive-write:FOLDER" if writes else "drive:FOLDER"
        return [
            Proposed(
                grant,
                f"{where} {'writes to' if writes else 'reads'} the mounted Drive",
                careful=True,
                incomplete=True,
            )
        ]
    if effect.kind == "serve" and kind == "port" and value.isdigit() and 1023 < int(value) < 65536:
        return [Proposed(f"port:{value}", f"{where} serves a page on this machine", careful=False)]
    if effect.kind == "hardware" and effect.target == "gpu":
        return [Proposed("gpu:0", f"{where} needs an accelerator", careful=True)]
    return []


def _credential(effect: Effect, kind: str, value: str, where: str) -> list[Proposed]:
    if effect.target == "google-drive":
        return [
            Proposed(
                "drive:FOLDER",
                f"{where} mounts Drive: name a folder to show instead",
                careful=True,
                incomplete=True,
            )
        ]
    if kind in _SECRET_HOSTS:
        name, host = _SECRET_HOSTS[kind]
        return [Proposed(f"secret:{name}@{host}", f"{where} uses {kind}", careful=True)]
    if kind in ("secret", "env") and value:
        host = _HOST_OF_SECRET.get(value.upper(), "")
        grant = f"{kind}:{value}@{host}" if host else f"{kind}:{value}"
        return [Proposed(grant, f"{where} asks for the secret {value}", careful=True)]
    return []


def _granted(grant: str, permissions: Permissions) -> bool:
    kind, _, value = grant.partition(":")
    if kind == "host":
        return covered(value, permissions.network.hosts)
    if kind in ("secret", "env"):
        secret = permissions.secrets.get(value.partition("@")[0])
        return secret is not None and (kind == "secret" or secret.environment)
    if kind in ("drive", "drive-write"):
        return permissions.drive is not None and (kind == "drive" or permissions.drive.write)
    if kind == "port":
        return int(value) in permissions.network.publish
    if kind == "gpu":
        return int(value) in permissions.devices.gpus
    if kind == "write":
        return permissions.files.write is not None
    if kind == "finding":
        return value in permissions.accept.findings
    try:
        return permissions.with_grant(grant) == permissions
    except AllmendError:
        return False


def requirements(plan: Plan) -> list[str]:
    """The plain packages of the index that the plan says are installed, pinned where the plan knows the
    version."""
    found = []
    for effect in plan.effects:
        kind, _, name = effect.target.partition(":")
        if (
            effect.kind != "install"
            or kind != "pip"
            or effect.certainty == "unknown"
            or "/" in name
            or name.startswith("-")
        ):
            continue
        version = effect.detail.get("version")
        found.append(f"{name}=={version}" if isinstance(version, str) and version[:1].isdigit() else name)
    return list(dict.fromkeys(found))
