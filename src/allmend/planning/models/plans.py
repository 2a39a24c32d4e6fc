"""Plans of models and adapters: a file, a folder, or `OWNER/NAME` of a hub. Weights are never loaded."""

from __future__ import annotations

import os
import re
from pathlib import Path

from allmend.errors import InputError
from allmend.models.reference import parse
from allmend.nouns.plan import Plan
from allmend.planning.models.gathered import Gathered
from allmend.planning.models.remote import Inspection, listing
from allmend.planning.models.texts import RELEASE, read_texts
from allmend.planning.models.weights import PICKLED, WEIGHTS, read_weights

_SMALL = 20 * 2**20


def looks_like_model(folder: Path) -> bool:
    """Whether a folder holds a model or adapter rather than notebooks or a repository of code."""
    if (folder / "adapter_config.json").is_file() or (folder / RELEASE).is_file():
        return True
    names = [path.name for path in folder.iterdir() if path.is_file()][:5000]
    weights = any(name.endswith(WEIGHTS) for name in names)
    return weights and ("config.json" in names or not any(name.endswith((".ipynb", ".py")) for name in names))


def plan_model_file(path: Path) -> Plan:
    """The plan of one weights file."""
    found = Gathered(str(path))
    read_weights(found, path)
    return found.plan()


def plan_model_folder(folder: Path) -> Plan:
    """The plan of a folder with a model or adapter."""
    found = Gathered(str(folder))
    root = folder.resolve()
    files = [p for p in sorted(folder.rglob("*"))[:5000] if p.is_file() and p.resolve().is_relative_to(root)]
    texts = {
        p.relative_to(folder).as_posix(): p.read_bytes().decode("utf-8", "replace")
        for p in files
        if p.suffix in (".json", ".jinja", ".md")
        and p.stat().st_size <= _SMALL
        and len(p.relative_to(folder).parts) < 3
    }
    read_texts(found, texts, [p.relative_to(folder).as_posix() for p in files])
    for path in files:
        if path.name.endswith(WEIGHTS):
            read_weights(found, path)
    return found.plan()


def plan_model_reference(reference: str) -> Plan:
    """The plan of `OWNER/NAME[@REVISION]`: from the local cache if it is there, else from what the hub lists."""
    name, _, revision = reference.partition("@")
    endpoint: str | None = None
    if reference.startswith("hub://"):
        ref = parse(reference)
        name, revision, endpoint = ref.name, ref.revision or "", ref.endpoint
    # What lies in the cache under a name may be another hub's.
    cached = _cached(name, revision) if endpoint is None else None
    if cached is not None:
        plan = plan_model_folder(cached)
        return plan.model_copy(update={"subject": plan.subject.model_copy(update={"path": reference})})
    listed = listing(name, revision or "main", endpoint)
    texts, files, parameters, digest = listed.texts, listed.files, listed.parameters, listed.commit
    found = Gathered(reference)
    found.digest.update(digest.encode())
    read_texts(found, texts, [row for row, _ in files])
    found.parameters = parameters
    found.effect("model", f"hf:{name}", revision=revision or None)
    for file, size in files:
        if file.endswith(WEIGHTS):
            found.size += size
        if file.endswith(PICKLED):
            found.effect("unpickle", file)
            if file not in listed.inspection.files:
                found.skip(f"{file}: a format that can run code; its opcodes were not read, because it was not fetched")
    if not files:
        raise InputError("the hub lists no files for it", where=reference)
    _inspected(found, listed.inspection)
    return found.plan()


def _inspected(found: Gathered, inspection: Inspection) -> None:
    """What the hub found when it looked at the files: its word, not read here."""
    if not inspection.done:
        return
    found.why.append("The hub looked at the files themselves; what it found is its word, and nothing was fetched here.")
    known = {finding.id for finding in found.findings}
    found.findings += [finding for finding in inspection.findings if finding.id not in known]
    for sentence in inspection.unread:
        found.skip(f"{sentence} (says the hub)")
    found.why += inspection.release


def _cached(name: str, revision: str) -> Path | None:
    base = os.environ.get("HF_HOME")
    home = os.environ.get("HF_HUB_CACHE") or (Path(base) if base else Path("~/.cache/huggingface").expanduser()) / "hub"
    folder = Path(home) / ("models--" + name.replace("/", "--"))
    wanted = revision or "main"
    try:
        pointer = folder / "refs" / wanted
        commit = pointer.read_text().strip() if pointer.is_file() else wanted
        snapshot = folder / "snapshots" / commit
        return snapshot if re.fullmatch(r"[\w.-]+", commit) and snapshot.is_dir() else None
    except OSError:
        return None
