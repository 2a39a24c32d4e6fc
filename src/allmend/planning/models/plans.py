"""Plans of models and adapters: a file, a folder, or `OWNER/NAME` of a hub. Weights are never loaded."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from allmend.errors import InputError
from allmend.models.reference import parse
from allmend.nouns.plan import Effect, Finding, Needs, Plan, Subject, Unread
from allmend.planning.hosts import hosts_of
from allmend.planning.models import headers, pickles
from allmend.planning.models.licences import limits
from allmend.planning.models.remote import Inspection, listing
from allmend.planning.models.templates import beyond_text
from allmend.planning.needs import memory_here

_PICKLED = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".dill", ".npy", ".npz")
_WEIGHTS = (".safetensors", ".gguf", *_PICKLED)
_RELEASE = "release.json"
_SMALL = 20 * 2**20
_BYTES = {"F64": 8.0, "F32": 4.0, "F16": 2.0, "BF16": 2.0, "I8": 1.0, "U8": 1.0, "F8_E4M3": 1.0, "F8_E5M2": 1.0}


class Findings:
    """What is gathered of one model."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.kind: str = "model"
        self.effects: list[Effect] = []
        self.findings: list[Finding] = []
        self.unread: list[Unread] = []
        self.why: list[str] = []
        self.parameters = 0
        self.size = 0
        self.digest = hashlib.sha256()
        self.base: str | None = None

    def effect(self, kind: str, target: str, **detail: Any) -> None:
        """One effect; models have no cells, so the cell is -1."""
        self.effects.append(Effect(kind=kind, target=target, cell=-1, line=1, certainty="exact", detail=detail))

    def finding(self, name: str, severity: str, title: str, why: str, fix: str) -> None:
        """One finding."""
        self.findings.append(Finding(id=name, severity=severity, title=title, why=why, fix=fix))

    def skip(self, reason: str) -> None:
        """Something that was not read."""
        self.unread.append(Unread(cell=-1, reason=reason))

    def plan(self) -> Plan:
        """The plan."""
        order = {"danger": 0, "warning": 1, "note": 2}
        totals: dict[str, int] = {}
        for effect in self.effects:
            totals[effect.kind] = totals.get(effect.kind, 0) + 1
        return Plan(
            subject=Subject(kind=self.kind, path=self.path, sha256=self.digest.hexdigest(), language="none"),
            effects=sorted(self.effects, key=lambda e: (e.kind, e.target)),
            hosts=hosts_of(self.effects),
            needs=self._needs(),
            findings=sorted(self.findings, key=lambda f: (order[f.severity], f.id)),
            unread=self.unread,
            totals=dict(sorted(totals.items())),
        )

    def _needs(self) -> Needs:
        memory = None
        fits: bool | None = None
        why = list(self.why)
        if self.parameters:
            sizes = ", ".join(
                f"{name} {_gib(self.parameters * width)}"
                for name, width in (("fp32", 4), ("bf16", 2), ("8 bit", 1.06), ("4 bit", 0.6))
            )
            count = f"{self.parameters / 1e6:,.0f} million" if self.parameters >= 10**6 else f"{self.parameters:,}"
            why.insert(0, f"{count} parameters; memory for the weights: {sizes}.")
            memory = int(min(self.parameters * 2, max(self.size, 1) if self.size else self.parameters * 2) * 1.2)
            here = memory_here()
            fits = memory <= here if here else None
            if fits is False:
                why.append(f"This machine has {_gib(here)} of memory.")
        elif self.size:
            memory, fits = int(self.size * 1.2), self.size * 1.2 <= memory_here() if memory_here() else None
        return Needs(memory_bytes=memory, disk_bytes=self.size or None, fits=fits, why=why)


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def looks_like_model(folder: Path) -> bool:
    """Whether a folder holds a model or adapter rather than notebooks or a repository of code."""
    if (folder / "adapter_config.json").is_file() or (folder / _RELEASE).is_file():
        return True
    names = [path.name for path in folder.iterdir() if path.is_file()][:5000]
    weights = any(name.endswith(_WEIGHTS) for name in names)
    return weights and ("config.json" in names or not any(name.endswith((".ipynb", ".py")) for name in names))


def plan_model_file(path: Path) -> Plan:
    """The plan of one weights file."""
    found = Findings(str(path))
    _file(found, path)
    return found.plan()


def _file(found: Findings, path: Path) -> None:
    size = path.stat().st_size
    found.size += size
    _digest(found, path)
    with path.open("rb") as file:
        start = file.read(8)
    suffix = path.suffix.lower()
    if start[:4] == b"GGUF" or suffix == ".gguf":
        header = headers.gguf(path)
        _gguf(found, path, header)
    elif suffix == ".safetensors":
        header = headers.safetensors(path)
        _say(found, path, header)
        for key in ("ss_sd_model_name", "ss_base_model_version", "base_model"):
            if key in header.metadata:
                found.why.append(f"It says that it was made from {header.metadata[key][:120]!r}.")
                break
    elif start[:6] == b"\x93NUMPY":
        _numpy(found, path)
    else:
        _pickle(found, path)


def _digest(found: Findings, path: Path) -> None:
    with path.open("rb") as file:
        while part := file.read(2**20):
            found.digest.update(part)


def _say(found: Findings, path: Path, header: headers.Header) -> None:
    found.parameters += header.parameters
    if header.types:
        kinds = ", ".join(sorted(header.types, key=lambda kind: -header.types[kind])[:3])
        found.why.append(f"{path.name}: {header.format}, {header.parameters / 1e6:,.1f} million numbers as {kinds}.")
    if header.problems:
        found.finding(
            "lying-header", "danger", f"{path.name} is not what its header says",
            "; ".join(header.problems[:3]) + ". A reader that trusts such a header can be led to read or write out of bounds.",
            "Do not load it; fetch it again from its source and compare digests.",
        )  # fmt: skip


def _gguf(found: Findings, path: Path, header: headers.Header) -> None:
    _say(found, path, header)
    template = header.metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        _template(found, path.name, template)
    licence = header.metadata.get("general.license")
    if isinstance(licence, str):
        _licence(found, licence)
    for key in ("general.base_model.0.name", "general.name"):
        if isinstance(header.metadata.get(key), str):
            found.why.append(f"It says that it is {header.metadata[key][:120]!r}.")
            break


def _numpy(found: Findings, path: Path) -> None:
    if any(True for _ in pickles.of_file(path)):
        _pickle(found, path)
    found.why.append(f"{path.name}: an array of NumPy.")


def _pickle(found: Findings, path: Path) -> None:
    dangerous: list[str] = []
    unusual: list[str] = []
    cut = False
    for name, codes in pickles.of_file(path):
        if codes.unread:
            cut = True
            found.skip(f"{path.name}: {name}: {codes.unread}")
        dangerous.extend(pickles.dangerous(codes))
        unusual.extend(pickles.unusual(codes))
    found.effect("unpickle", path.name, imports=sorted({*dangerous, *unusual})[:50])
    if dangerous:
        found.finding(
            "pickle-runs-programs", "danger", f"Loading {path.name} runs {', '.join(sorted(set(dangerous))[:3])}",
            "A pickle is a program; this one calls things that no weights need. It runs the moment the file is loaded.",
            "Do not load it. Delete it, or keep it only to show to whoever published it.",
        )  # fmt: skip
    elif unusual:
        found.finding(
            "pickle-imports-packages", "warning", f"Loading {path.name} imports {', '.join(sorted(set(unusual))[:3])}",
            "Besides tensors it names classes of other packages; their code runs as the file is loaded.",
            "Ask for safetensors, or load with weights_only=True and see whether it needs more.",
        )  # fmt: skip
    elif cut:
        found.finding(
            "pickle-not-read", "warning", f"{path.name} is a pickle that could not be read to its end",
            "What could be read of it names nothing but tensors and plain values; the rest is not known to be harmless.",
            "Load it with weights_only=True only, or ask for safetensors.",
        )  # fmt: skip
    else:
        found.finding(
            "pickle-format", "note", f"{path.name} is a pickle, a format that can run code",
            "Its opcodes name nothing but tensors and plain values. A changed file could name anything.",
            "Prefer safetensors where it is offered; load this one with weights_only=True.",
        )  # fmt: skip


def _template(found: Findings, name: str, template: str) -> None:
    beyond = beyond_text(template)
    if beyond:
        found.effect("dynamic_code", f"chat template of {name}")
        found.finding(
            "template-beyond-text", "danger", f"The chat template of {name} reaches beyond text",
            f"It reaches for {', '.join(beyond)}. A template engine without a sandbox would run that with every message.",
            "Do not use this template; take the one of the base model.",
        )  # fmt: skip


def _licence(found: Findings, licence: str) -> None:
    found.why.append(f"Licence: {licence}.")
    for limit in limits(licence):
        found.finding(
            "licence-limits", "note", f"Its licence ({licence}) limits its use", f"The licence says: {limit}.",
            "Read it before you build on it or pass it on.",
        )  # fmt: skip


def plan_model_folder(folder: Path) -> Plan:
    """The plan of a folder with a model or adapter."""
    found = Findings(str(folder))
    root = folder.resolve()
    files = [p for p in sorted(folder.rglob("*"))[:5000] if p.is_file() and p.resolve().is_relative_to(root)]
    texts = {
        p.relative_to(folder).as_posix(): p.read_bytes().decode("utf-8", "replace")
        for p in files
        if p.suffix in (".json", ".jinja", ".md")
        and p.stat().st_size <= _SMALL
        and len(p.relative_to(folder).parts) < 3
    }
    _described(found, texts, [p.relative_to(folder).as_posix() for p in files])
    for path in files:
        if path.name.endswith(_WEIGHTS):
            _file(found, path)
    return found.plan()


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _described(found: Findings, texts: dict[str, str], names: list[str]) -> None:
    """What the small files say: remote code, base, template, licence."""
    _release(found, _json(texts.get(_RELEASE)))
    adapter = _json(texts.get("adapter_config.json"))
    if adapter:
        found.kind = "adapter"
        base = adapter.get("base_model_name_or_path")
        if isinstance(base, str) and base:
            found.base = base
            found.why.append(f"An adapter on {base}.")
            if re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?", base):
                found.effect("model", f"hf:{base}", revision=adapter.get("revision"))
        if isinstance(adapter.get("auto_mapping"), dict):
            found.why.append("It names its own model class (auto_mapping).")
    scripts = [name for name in names if name.endswith(".py")]
    for name in ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
        mapped = _json(texts.get(name)).get("auto_map")
        if isinstance(mapped, dict) and mapped:
            targets = sorted(
                {
                    str(part)
                    for value in mapped.values()
                    for part in (value if isinstance(value, list) else [value])
                    if part
                }
            )
            for target in targets[:20]:
                found.effect(
                    "foreign_code", target.partition(".")[0] + ".py" if "--" not in target else target, pinned=False
                )
            if not any(f.id == "remote-code" for f in found.findings):
                found.finding(
                    "remote-code", "warning", "It brings its own Python code",
                    f"{name} maps classes to {', '.join(targets[:3])}; with trust_remote_code=True that code runs with your rights.",
                    f"Read {', '.join(scripts[:4]) or 'that code'} first, and pin the revision.",
                )  # fmt: skip
    template = _json(texts.get("tokenizer_config.json")).get("chat_template")
    pieces: list[Any] = [template]
    if isinstance(template, list):
        pieces = [part.get("template") for part in template if isinstance(part, dict)]
    pieces.extend(text for name, text in texts.items() if name.endswith(".jinja"))
    extra = _json(texts.get("chat_template.json")).get("chat_template")
    pieces.append(extra)
    for piece in pieces:
        if isinstance(piece, str) and not any(f.id == "template-beyond-text" for f in found.findings):
            _template(found, Path(found.path).name, piece)
    _card(found, texts.get("README.md", ""), names)


def _release(found: Findings, release: dict[str, Any]) -> None:
    """A folder that says it was made by `allmend ship`; that its bytes are what was made is another verb's to check."""
    if release.get("schema") != "allmend.release/1":
        return
    found.why.append(f"It says that it is a release of {str(release.get('base'))[:120]}, made by `allmend ship`.")
    for artefact in release.get("artefacts") or []:
        if isinstance(artefact, dict):
            found.why.append(f"{str(artefact.get('path'))[:120]}: {artefact.get('kind')} in {artefact.get('type')}.")
    found.skip("its digests, statements and signature; `allmend ship verify` checks those")


_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)


def _card(found: Findings, text: str, names: list[str]) -> None:
    match = _FRONT.match(text)
    front = match[1] if match else ""
    licence = re.search(r"^license:\s*[\"']?([\w.+-]+)", front, re.MULTILINE)
    named = re.search(r"^license_name:\s*[\"']?([\w.+-]+)", front, re.MULTILINE)
    if licence:
        _licence(found, named[1] if named and licence[1] == "other" else licence[1])
    elif any(name.upper().startswith(("LICENSE", "LICENCE")) for name in names):
        found.why.append("A licence file lies beside it; its terms were not read.")
    else:
        found.finding(
            "no-licence", "note", "No licence is stated", "Without one, nobody may use, change or pass it on.",
            "Ask its maker, or take a model that says.",
        )  # fmt: skip
    base = re.search(r"^base_model:\s*(?:\n\s*-\s*)?[\"']?([\w./-]+)", front, re.MULTILINE)
    if base and found.base is None:
        found.base = base[1]
        found.why.append(f"Its card says that it comes from {base[1]}.")


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
    found = Findings(reference)
    found.digest.update(digest.encode())
    _described(found, texts, [row for row, _ in files])
    found.parameters = parameters
    found.effect("model", f"hf:{name}", revision=revision or None)
    for file, size in files:
        if file.endswith(_WEIGHTS):
            found.size += size
        if file.endswith(_PICKLED):
            found.effect("unpickle", file)
            if file not in listed.inspection.files:
                found.skip(f"{file}: a format that can run code; its opcodes were not read, because it was not fetched")
    if not files:
        raise InputError("the hub lists no files for it", where=reference)
    _inspected(found, listed.inspection)
    return found.plan()


def _inspected(found: Findings, inspection: Inspection) -> None:
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
    import os

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
