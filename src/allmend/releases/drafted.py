"""What lies in a release in the making, as values: its artefacts with digests, and what the base says of itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from allmend.digests import file_digest, folder_digest, path_digest
from allmend.models.loading import Loaded
from allmend.nouns.release import Artefact, ArtefactKind
from allmend.nouns.verdict import Measure, Verdict
from allmend.releases.facts import public
from allmend.releases.safetensors_stream import shards


def artefact(draft: Path, name: str, kind: ArtefactKind, path: str, type_: str, on: str | None = None) -> Artefact:
    """A file or folder of the draft, with size and digest."""
    place = draft / path
    digest = folder_digest(place) if place.is_dir() else file_digest(place)
    size = sum(file.stat().st_size for file in place.rglob("*")) if place.is_dir() else place.stat().st_size
    return Artefact(name=name, kind=kind, path=path, type=type_, on=on, bytes=size, sha256=digest)


def leaving(verdict: Verdict) -> Verdict:
    """A verdict without rows of the data and without this machine's folders.

    What a norm was broken by may be a held-out prompt with its answer, and a metric's faults name a file and a line
    of it; both stay at home. How many there were leaves.
    """
    places = {"adapter": public(verdict.adapter), "data": public(verdict.data), "model": public(verdict.model)}
    norms, forgetting = verdict.norms, verdict.forgetting
    if norms is not None:
        results = [result.model_copy(update={"broken": []}) for result in norms.results]
        norms = norms.model_copy(update={"file": Path(norms.file).name, "results": results})
    if forgetting is not None:
        forgetting = forgetting.model_copy(update={"measures": _without_faults(forgetting.measures)})
    kept = {"measures": _without_faults(verdict.measures), "norms": norms, "forgetting": forgetting}
    return verdict.model_copy(update={"gained_examples": [], "lost_examples": [], **kept, **places})


def _without_faults(measures: Sequence[Measure]) -> list[Measure]:
    return [measure.model_copy(update={"faults": []}) for measure in measures]


def token_count(loaded: Loaded) -> int:
    """How many tokens `tokenizer.json` names; the tokenizer's own count where there is no such file."""
    try:
        spec = json.loads((loaded.folder / "tokenizer.json").read_text("utf-8"))
        return len({*spec["model"]["vocab"].values(), *(token["id"] for token in spec["added_tokens"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return len(loaded.tokenizer)


def origin(loaded: Loaded) -> str | None:
    """The base as its makers call it; a path that a configuration happens to hold is no name."""
    name = loaded.about.base
    return name if name and not name.startswith(("/", ".", "~")) else None


def files_of_artefacts(draft: Path, artefacts: Sequence[Artefact]) -> dict[str, str]:
    """Relative path of every file of the artefacts: SHA-256."""
    files = {}
    for artefact in artefacts:
        place = draft / artefact.path
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                files[path.relative_to(draft).as_posix()] = path_digest(path)
    return files


def stored(folder: Path) -> str:
    """The number format of most weights of a merged folder."""
    sizes: Counter[str] = Counter()
    for shard in shards(folder):
        for entry in shard.entries:
            sizes[entry.dtype] += entry.size
    name = sizes.most_common(1)[0][0].lower()
    return name if name in ("bf16", "f16", "f32") else "f32"
