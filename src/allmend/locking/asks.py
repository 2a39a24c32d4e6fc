"""What a plan says a notebook installs and fetches, sorted by how it is locked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from allmend.nouns.lock import Unlocked
from allmend.nouns.plan import Effect, Plan


@dataclass(frozen=True)
class Wanted:
    """One requirement of one install line."""

    text: str
    """As the line writes it: `numpy>=1.2,<2`, `git+https://…@REF`, an address, a folder of a clone."""
    cell: int
    line: int
    options: tuple[str, ...] = ()
    """`--extra-index-url URL`, `--find-links URL`, `--pre`, `--no-deps`, …"""
    source: str = "index"
    clone: str | None = None
    """The clone that a path lies in."""
    inside: str = ""
    written: str | None = None
    """The text of a requirements file that the notebook writes itself."""

    @property
    def place(self) -> str:
        """For people."""
        return f"cell {self.cell}"


@dataclass(frozen=True)
class Fetched:
    """A clone, a file, a model or data set."""

    target: str
    cell: int
    ref: str | None = None


@dataclass
class Asks:
    """Everything to lock, in the order of the notebook."""

    packages: list[Wanted] = field(default_factory=list)
    files: list[Wanted] = field(default_factory=list)
    """`-r FILE`."""
    clones: list[Fetched] = field(default_factory=list)
    downloads: list[Fetched] = field(default_factory=list)
    models: list[Fetched] = field(default_factory=list)
    datasets: list[Fetched] = field(default_factory=list)
    system: list[Fetched] = field(default_factory=list)
    """apt packages; `ref` is the version asked for."""
    unlocked: list[Unlocked] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One line for each thing asked for, sorted, without where: what a lock is compared by."""
        found = {_ask_line(wanted) for wanted in (*self.packages, *self.files)}
        for word, group in (("clone", self.clones), ("download", self.downloads), ("model", self.models),
                            ("dataset", self.datasets), ("apt", self.system)):  # fmt: skip
            found |= {f"{word} {one.target}" + (f"@{one.ref}" if one.ref else "") for one in group}
        found |= {f"not locked {one.what}" for one in self.unlocked}
        return sorted(found)


def _ask_line(wanted: Wanted) -> str:
    from hashlib import sha256

    told = f" ({sha256(wanted.written.encode()).hexdigest()[:12]})" if wanted.written is not None else ""
    return f"pip {wanted.text}{told}" + "".join(f" {option}" for option in sorted(wanted.options))


_WHY = {
    "gdrive": "the address of a Drive file is worked out by gdown while it runs",
    "kaggle": "Kaggle gives files only to an account",
    "tfds": "the library chooses and fetches the files while it runs",
    "torchvision": "the library chooses and fetches the files while it runs",
    "keras": "the library chooses and fetches the files while it runs",
    "sklearn": "the library chooses and fetches the files while it runs",
    "roboflow": "Roboflow gives files only to an account",
    "wandb": "Weights & Biases gives files only to an account",
    "conda": "conda is not there in the box; only pip's packages are locked",
    "npm": "npm packages are not locked",
    "ollama": "ollama fetches by its own protocol",
    "spacy": "spaCy chooses the package while it runs",
    "modelscope": "only the Hugging Face protocol is locked",
}


def asks(plan: Plan) -> Asks:
    """Sort a plan's effects; what cannot be locked is listed with the reason."""
    found = Asks()
    for effect in plan.effects:
        if effect.kind not in ("install", "clone", "download", "model", "dataset"):
            continue
        if effect.certainty == "unknown":
            why = f"it cannot be known before it runs: {effect.reason or 'not written out'}"
            found.unlocked.append(Unlocked(what=f"{effect.kind} {effect.target}", cell=effect.cell, why=why))
        else:
            _KINDS[effect.kind](found, effect)
    found.unlocked += [
        Unlocked(what="what else it may fetch", cell=part.cell, why=f"not read ({part.reason})") for part in plan.unread
    ]
    return found


def _not(found: Asks, effect: Effect, why: str) -> None:
    found.unlocked.append(Unlocked(what=f"{effect.kind} {effect.target}", cell=effect.cell, why=why))


def _install(found: Asks, effect: Effect) -> None:
    manager, _, target = effect.target.partition(":")
    detail = effect.detail
    if manager == "apt":
        if detail.get("source") == "path":
            _not(found, effect, "a package file of the notebook's own; it comes from whatever fetched it")
        else:
            found.system.append(Fetched(target, effect.cell, detail.get("version")))
        return
    if manager != "pip":
        _not(found, effect, _WHY.get(manager, f"{manager} is not locked"))
        return
    options = tuple(detail.get("options") or ())
    source = str(detail.get("source") or "index")
    texts = detail.get("requirements") if source == "index" else [target.removeprefix("-r ")]
    for text in texts or [target]:
        wanted = Wanted(
            text=str(text), cell=effect.cell, line=effect.line, options=options, source=source,
            clone=detail.get("clone"), inside=str(detail.get("inside") or ""), written=detail.get("written"),
        )  # fmt: skip
        (found.files if source == "requirements" else found.packages).append(wanted)


def _clone(found: Asks, effect: Effect) -> None:
    if not re.match(r"https?://", effect.target):
        _not(found, effect, "only repositories at http and https addresses are locked")
        return
    found.clones.append(Fetched(effect.target, effect.cell, effect.detail.get("ref")))


def _download(found: Asks, effect: Effect) -> None:
    if re.match(r"https?://", effect.target):
        found.downloads.append(Fetched(effect.target, effect.cell))
    elif re.match(r"(?:[\w-]+\.)+[a-z]{2,}/", effect.target):
        found.downloads.append(Fetched(f"http://{effect.target}", effect.cell))  # as wget and curl read it
    else:
        scheme = effect.target.partition(":")[0]
        _not(found, effect, _WHY.get(scheme, "only files at http and https addresses are locked"))


def _hub(found: Asks, effect: Effect) -> None:
    scheme, _, name = effect.target.partition(":")
    if re.match(r"https?://", effect.target):
        found.downloads.append(Fetched(effect.target, effect.cell))
    elif scheme == "hf" and re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?", name):
        group = found.models if effect.kind == "model" else found.datasets
        group.append(Fetched(name, effect.cell, effect.detail.get("revision") or None))
    else:
        _not(found, effect, _WHY.get(scheme, "where it comes from is not known"))


_KINDS = {"install": _install, "clone": _clone, "download": _download, "model": _hub, "dataset": _hub}
