"""Spelling targets: URLs, hosts, Drive ids, hub names, requirements."""

from __future__ import annotations

import re

from allmend.planning.evaluation.values import DERIVED, HOLE_START

_HOST = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?//(?:[^/@\s]*@)?(?P<host>\[[^\]]+\]|[^/:?#\s]+)", re.IGNORECASE)
_SCP = re.compile(r"^[\w.-]+@(?P<host>[\w.-]+):(?P<path>.+)$")
_DRIVE_ID = re.compile(r"(?:[?&]id=(?P<id>[\w-]+)|(?:/d/|/folders/|/file/d/)(?P<id2>[\w-]{10,}))")
_COMMIT = re.compile(r"^[0-9a-f]{7,40}$")
_VERSION = re.compile(r"^(?:[A-Za-z][\w]*[-_/])*v?\d+(?:\.\d+)+[\w.+-]*$|^v\d+$|^release[-_/]?v?\d[\w.-]*$")
_LOOPBACK = re.compile(
    r"^(?:localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|\[::1\]|::1|host\.docker\.internal)$", re.IGNORECASE
)
_LOCAL_FILE = re.compile(
    r"\.(?:pt|pth|bin|ckpt|safetensors|h5|hdf5|pkl|pickle|onnx|json|txt|csv|keras|gguf|model|zip|tar|npz|joblib|t7|pb|tflite|py)$",
    re.IGNORECASE,
)

_LOCAL_FOLDERS = frozenset(
    [
        "output",
        "outputs",
        "out",
        "checkpoint",
        "checkpoints",
        "ckpt",
        "ckpts",
        "result",
        "results",
        "run",
        "runs",
        "log",
        "logs",
        "model",
        "models",
        "weights",
        "pretrained",
        "pretrained_models",
        "saved_models",
        "saved_model",
        "data",
        "experiments",
        "exp",
        "tmp",
        "save",
        "saves",
        "trained_models",
        "model_result",
    ]
)
"""First parts of a path that nobody would take for an owner on a hub."""


def plain(text: str) -> str:
    """`text` without the marks of derivation."""
    return text.replace(DERIVED, "")


def host_of(url: str) -> str:
    """The host of a URL, or an empty string."""
    url = plain(url)
    match = _HOST.match(url) or _SCP.match(url)
    if not match:
        return ""
    host = match["host"]
    if HOLE_START in host:
        return ""
    if url.startswith("gs://"):
        return "storage.googleapis.com"
    return f"{host.lower()}.s3.amazonaws.com" if url.startswith("s3://") else host.lower()


def is_url(text: str) -> bool:
    """Whether `text` begins like an address."""
    return bool(re.match(r"(?:https?|ftp|gs|s3|hf|git|ssh|sftp)://", plain(text).lstrip(), re.IGNORECASE))


def loopback(url: str) -> bool:
    """Whether `url` stays on this machine."""
    return bool(_LOOPBACK.match(host_of(url)))


def repository(url: str) -> str:
    """A clone's URL without a trailing `.git` or slash."""
    mark = DERIVED if DERIVED in url else ""
    url = plain(url).strip().strip("\"'").rstrip("/")
    return mark + url.removesuffix(".git").rstrip("/")


def pinned_name(name: str) -> bool:
    """Whether a branch or tag name looks like a version or a commit."""
    name = plain(name)
    return bool(_COMMIT.match(name) or _VERSION.match(name)) and name not in ("main", "master")


def commit(name: str) -> bool:
    """Whether `name` is a commit."""
    return bool(_COMMIT.match(plain(name)))


def drive_id(text: str) -> str | None:
    """The id in a Google Drive link."""
    match = _DRIVE_ID.search(plain(text))
    return (match["id"] or match["id2"]) if match else None


def drive_host(text: str) -> bool:
    """Whether a URL is one of Google Drive's."""
    return host_of(text) in ("drive.google.com", "docs.google.com", "drive.usercontent.google.com")


def hub_name(text: str) -> str | None:
    """`OWNER/NAME` or `NAME` of a hub, or None when `text` is a path or something else."""
    text = plain(text).strip()
    if not text or text.startswith(("/", ".", "~", "$")) or " " in text or "\\" in text:
        return None
    if text.count("/") > 1 or text.endswith("/"):
        return None
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?(?:[@:][\w.-]+)?", text):
        return None
    if "/" in text and text.partition("/")[0] in _LOCAL_FOLDERS:
        return None
    if _LOCAL_FILE.search(text) or re.search(r"(?:^|/)checkpoint-\d+$", text):
        return None
    return text


def package(name: str) -> str:
    """A package's name as PEP 503 normalises it, extras dropped."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower().strip()
