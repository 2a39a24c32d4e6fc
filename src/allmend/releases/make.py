"""Making a release: merge, convert, prove, describe, sign; a folder that appears whole, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from allmend import __version__
from allmend.adapters import AdapterWeights
from allmend.data import Row, Template
from allmend.data.tokens import marks
from allmend.digests import file_digest, folder_digest, path_digest
from allmend.errors import InputError, Refused
from allmend.models.loading import Loaded
from allmend.nouns.release import Artefact, ArtefactKind, Breach, Release
from allmend.nouns.run import Run
from allmend.nouns.verdict import Verdict
from allmend.releases import container, gguf_files, licences, lineage, listing, modelfile, signing
from allmend.releases.card import card
from allmend.releases.expected import Expected, Marks
from allmend.releases.facts import Facts, public, public_name
from allmend.releases.gguf.settings import settings_of
from allmend.releases.gguf.types import checked
from allmend.releases.merge import merge
from allmend.releases.parity import probes as probing
from allmend.releases.prove import Case, Proof, ask_tested, prove, report

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "vocab.txt", "spiece.model",
)  # fmt: skip


@dataclass(frozen=True)
class Order:
    """What to ship, and from what."""

    run: Run
    loaded: Loaded
    """The base in memory, fp32, without LoRA."""
    weights: AdapterWeights
    template: Template
    rows: Sequence[Row]
    """Held-out rows."""
    labels: Sequence[str] | None
    target: Path
    verdict: Verdict | None
    data: str
    data_digest: str | None
    data_licence: str | None
    splits: dict[str, int]
    merge: bool = False
    gguf: tuple[str, ...] = ()
    sign: Path | None = None
    container: bool = False
    prompts: int = 32
    licence: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    report_to: Path | None = None
    """Folder that keeps the parity report of a refusal."""
    stage: Callable[[str], None] = lambda _: None
    amount: Callable[[str, int, int], None] = lambda *_: None


def make(order: Order) -> Release:
    """Make it.

    Raises:
        Refused: an artefact is not what was tested (its message names the causes), or a licence's terms are missing.
        InputError, DoesNotFit, Unavailable: it cannot be made from this run, here.
    """
    types = checked(order.gguf)
    maker = Maker(order, types)
    # What can be refused is refused before any work.
    if order.sign is not None:
        signing.load_key(order.sign)
    if order.target.exists():
        raise InputError("there is something of that name already", where=str(order.target), hint="Name another --to.")
    order.target.parent.mkdir(parents=True, exist_ok=True)
    draft = order.target.with_name(f".{order.target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        release = maker.make(draft)
        draft.rename(order.target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(maker.scratch, ignore_errors=True)
    return release


class Maker:
    """The making of one release, step by step."""

    def __init__(self, order: Order, types: tuple[str, ...]) -> None:
        self.order, self.types = order, types
        loaded = order.loaded
        ends = marks(loaded.tokenizer)
        self.probes = probing.make(
            order.rows, order.labels, loaded.tokenizer, order.template, context=loaded.context, count=order.prompts
        )
        if not self.probes.rows:
            raise InputError("there are no held-out rows to compare on", hint="Tune with rows that are held out.")
        self.template = probing.released(order.template, self.probes, ends.bos, ends.bos_text)
        starts = ends.bos is not None and self.probes.rows[0].prompt[:1] == [ends.bos]
        self.expected = Expected.of(
            loaded.folder,
            loaded.about.digest,
            order.weights,
            self.template.text,
            Marks(ends.bos, ends.eos, ends.bos_text, starts),
            frozenset({len(loaded.tokenizer), _tokens(loaded)}),
        )
        self.eos_text = ends.eos_text
        self.terms = licences.terms_of(loaded.about, self.expected.config, order.licence)
        if types:
            settings_of(self.expected.config, loaded.folder)
        self.name = f"{public_name(loaded.about).rpartition('/')[2].partition('@')[0]}-{order.run.id}"
        self.scratch = order.target.with_name(f".{order.target.name}.scratch")
        self.notes: list[str] = []

    def make(self, draft: Path) -> Release:
        """Everything, into the empty folder `draft`."""
        artefacts, case = self.artefacts(draft)
        proof = self._prove(case, artefacts)
        return self._describe(draft, artefacts, proof, self.order)

    def artefacts(self, draft: Path) -> tuple[list[Artefact], Case]:
        """Adapter, merged model and GGUF files, and what is needed to prove them."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        made = [self._adapter(draft)]
        merged = self._merged(draft, made)
        base_gguf = self._gguf(draft, merged, made) if merged is not None and self.types else None
        return made, Case(draft, merged, self.expected, self.probes, self.order.loaded, base_gguf)

    def _tokenizer(self, folder: Path) -> None:
        for name in TOKENIZER_FILES:
            source = self.order.loaded.folder / name
            if not source.is_file():
                continue
            if name == "tokenizer_config.json":
                value = json.loads(source.read_text("utf-8"))
                value.pop("chat_template", None)
                (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False), "utf-8")
            else:
                shutil.copyfile(source, folder / name)
        self.template.write(folder)

    def _adapter(self, draft: Path) -> Artefact:
        folder, source = draft / "adapter", self.order.weights.folder
        folder.mkdir()
        shutil.copyfile(source / "adapter_model.safetensors", folder / "adapter_model.safetensors")
        # The base is named as others know it, not by a folder of this machine.
        about = self.order.loaded.about
        for name, key in (("adapter_config.json", "base_model_name_or_path"), ("allmend.json", "base")):
            if (source / name).is_file():
                value = json.loads((source / name).read_text("utf-8"))
                value[key] = _origin(self.order.loaded) or public_name(about) if key != "base" else public_name(about)
                (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False), "utf-8")
        self._tokenizer(folder)
        return _artefact(draft, "adapter", "adapter", "adapter", "f32")

    def _merged(self, draft: Path, artefacts: list[Artefact]) -> Path | None:
        order = self.order
        if not (order.merge or self.types or order.container):
            return None
        keep = order.merge or order.container
        folder = (draft if keep else self.scratch) / "merged"
        folder.mkdir()
        order.stage("Merging")
        merge(order.loaded.folder, order.weights, folder, order.amount)
        self._tokenizer(folder)
        if keep:
            artefacts.append(_artefact(draft, "merged", "merged", "merged", _stored(folder)))
        return folder

    def _gguf(self, draft: Path, merged: Path, artefacts: list[Artefact]) -> Path | None:
        order = self.order
        order.stage("Writing GGUF")
        files = gguf_files.Files(
            loaded=order.loaded,
            weights=order.weights,
            expected=self.expected,
            name=self.name,
            licence=self.terms.name,
        )
        folder = draft / "gguf"
        folder.mkdir()
        for type_ in self.types:
            path = folder / f"{self.name}-{type_}.gguf"
            note = files.model(merged, path, type_, order.amount)
            if note is not None:
                self.notes.append(note)
            artefacts.append(_artefact(draft, f"gguf-{type_}", "gguf", f"gguf/{path.name}", type_))
        base_gguf: Path | None = None
        if order.weights.magnitudes:
            self.notes.append("The adapter is a DoRA, which a GGUF adapter cannot hold; only the merged model is GGUF.")
        else:
            path = folder / f"{self.name}-adapter.gguf"
            files.adapter(path)
            base_gguf, base_type = files.base(self.scratch)
            artefacts.append(_artefact(draft, "gguf-adapter", "gguf_adapter", f"gguf/{path.name}", "f32", base_type))
        pieces = modelfile.pieces(self.template, self.expected.marks.bos_text, self.eos_text)
        if pieces is None:
            self.notes.append("The chat template cannot be said in Ollama's language; its Modelfile has none.")
        text = modelfile.modelfile(
            f"{self.name}-{self.types[0]}.gguf", pieces, self.expected.generation, [self.eos_text], self.terms.notice
        )
        (folder / modelfile.NAME).write_text(text, "utf-8")
        return base_gguf

    def _prove(self, case: Case, artefacts: list[Artefact]) -> Proof:
        order = self.order
        order.stage(f"Asking the tested model {len(self.probes.rows)} held-out prompts")
        truth = ask_tested(order.loaded, order.weights, self.probes)
        proof = prove(case, artefacts, truth, order.stage)
        text = json.dumps(report(proof, self.probes, texts=False), indent=1, ensure_ascii=False)
        (case.folder / listing.PARITY).write_text(text, "utf-8")
        kept = order.report_to / "parity.json" if order.report_to is not None else None
        if kept is not None:
            text = json.dumps(report(proof, self.probes, texts=True), indent=1, ensure_ascii=False)
            kept.write_text(text, "utf-8")
        if proof.breaches:
            raise refusal(proof.breaches, kept)
        return proof

    def _describe(self, draft: Path, artefacts: list[Artefact], proof: Proof, order: Order) -> Release:
        order.stage("Writing card, lineage and bill of materials")
        loaded = order.loaded
        self.notes += gguf_files.origin_notes(loaded)
        if not self.types:
            self.notes.append("No GGUF was made.")
        if order.container:
            container.write(draft, self.name)
        made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
        facts = Facts(
            name=self.name,
            made=made,
            version=__version__,
            run=order.run,
            base=loaded.about,
            base_origin=_origin(loaded),
            terms=self.terms,
            data=order.data,
            data_digest=order.data_digest,
            data_licence=order.data_licence,
            rows=order.splits,
            verdict=order.verdict,
            template=order.template.name,
            rank=order.weights.config.rank,
            alpha=order.weights.config.alpha,
            targets=order.weights.about().targets,
            agreements=proof.agreements,
            notes=self.notes,
            settings=order.settings,
        )
        release = Release(
            name=self.name,
            run=order.run.id,
            made=made,
            allmend=__version__,
            base=public_name(loaded.about),
            base_digest=loaded.about.digest,
            base_format=loaded.about.format,
            base_origin=_origin(loaded),
            adapter_digest=order.weights.digest,
            data_digest=order.data_digest,
            template=order.template.name,
            template_digest=self.template.digest,
            licence=self.terms.name or ("Gemma Terms of Use" if self.terms.notice else None),
            artefacts=artefacts,
            agreements=proof.agreements,
            signed=order.sign is not None,
            notes=self.notes,
        )
        licences.put(self.terms, draft)
        if order.verdict is not None:
            (draft / listing.VERDICT).write_text(_leaving(order.verdict).to_json(), "utf-8")
        files = _artefact_files(draft, artefacts)
        (draft / listing.STATEMENT).write_text(lineage.statement(facts, files), "utf-8")
        (draft / listing.BOM).write_text(lineage.bill(facts, files), "utf-8")
        (draft / listing.CARD).write_text(card(facts, artefacts), "utf-8")
        (draft / listing.RELEASE).write_text(release.to_json(), "utf-8")
        for path in draft.rglob("*"):
            if path.is_file():
                path.chmod(0o644)
        listing.write_sums(draft)
        if order.sign is not None:
            order.stage("Signing")
            signing.sign(draft, order.sign)
        return release


def refusal(breaches: Sequence[Breach], kept: Path | None = None) -> Refused:
    """The error that names every cause once, the first with its evidence and fix."""
    first = breaches[0]
    others = [f"{one.artefact}: {one.message} ({one.cause})" for one in breaches[1:]]
    words = f"{first.artefact} is not what was tested: {first.message} [{first.cause}]"
    if first.evidence:
        words += f"; {first.evidence}"
    if others:
        words += "; also " + "; ".join(others[:6])
    hint = f"{first.fix} Nothing was shipped" + (f"; the whole report: {kept}" if kept is not None else "") + "."
    return Refused(words, hint=hint)


def _artefact(draft: Path, name: str, kind: ArtefactKind, path: str, type_: str, on: str | None = None) -> Artefact:
    place = draft / path
    digest = folder_digest(place) if place.is_dir() else file_digest(place)
    size = sum(file.stat().st_size for file in place.rglob("*")) if place.is_dir() else place.stat().st_size
    return Artefact(name=name, kind=kind, path=path, type=type_, on=on, bytes=size, sha256=digest)


def _leaving(verdict: Verdict) -> Verdict:
    """A verdict without rows of the data and without this machine's folders."""
    places = {"adapter": public(verdict.adapter), "data": public(verdict.data), "model": public(verdict.model)}
    return verdict.model_copy(update={"gained_examples": [], "lost_examples": [], **places})


def _tokens(loaded: Loaded) -> int:
    """How many tokens `tokenizer.json` names; the tokenizer's own count where there is no such file."""
    try:
        spec = json.loads((loaded.folder / "tokenizer.json").read_text("utf-8"))
        return len({*spec["model"]["vocab"].values(), *(token["id"] for token in spec["added_tokens"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return len(loaded.tokenizer)


def _origin(loaded: Loaded) -> str | None:
    """The base as its makers call it; a path that a configuration happens to hold is no name."""
    name = loaded.about.base
    return name if name and not name.startswith(("/", ".", "~")) else None


def _artefact_files(draft: Path, artefacts: Sequence[Artefact]) -> dict[str, str]:
    files = {}
    for artefact in artefacts:
        place = draft / artefact.path
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                files[path.relative_to(draft).as_posix()] = path_digest(path)
    return files


def _stored(folder: Path) -> str:
    """The number format of most weights of a merged folder."""
    from collections import Counter

    from allmend.releases.safetensors_stream import shards

    sizes: Counter[str] = Counter()
    for shard in shards(folder):
        for entry in shard.entries:
            sizes[entry.dtype] += entry.size
    name = sizes.most_common(1)[0][0].lower()
    return name if name in ("bf16", "f16", "f32") else "f32"
