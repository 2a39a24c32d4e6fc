"""Making a release: merge, convert, prove, describe, sign; a folder that appears whole, or not at all."""

from __future__ import annotations

import errno
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
from allmend.errors import AllmendError, DoesNotFit, InputError, Refused
from allmend.models.loading import Loaded, load
from allmend.nouns.release import Agreement, Artefact, Breach, Release
from allmend.nouns.run import Run
from allmend.nouns.verdict import Verdict
from allmend.releases import container, gguf_files, licences, lineage, listing, modelfile, signing
from allmend.releases.card import card, cost
from allmend.releases.drafted import artefact, files_of_artefacts, leaving, origin, stored, token_count
from allmend.releases.expected import Expected, Marks
from allmend.releases.facts import Facts, public_name
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
    """The base in memory, fp32, without LoRA; of a run that learned all weights its own model."""
    weights: AdapterWeights
    """The adapter; without modules where the run learned all weights."""
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
    bits: int | None = None
    """8 or 4 where the adapter was tuned and tested on the base rounded so, while it leaves for the base itself."""
    settings: dict[str, Any] = field(default_factory=dict)
    report_to: Path | None = None
    """Folder that keeps the parity report of a refusal."""
    stage: Callable[[str], None] = lambda _: None
    amount: Callable[[str, int, int], None] = lambda *_: None

    @property
    def whole(self) -> bool:
        """Whether all weights were learned, so that there is a model and no adapter."""
        return not self.weights.modules


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
    draft = order.target.with_name(f".{order.target.name}.new")
    try:
        order.target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        release = maker.make(draft)
        draft.rename(order.target)
    except OSError as error:
        raise _unwritten(error, order.target) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(maker.scratch, ignore_errors=True)
    return release


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _unwritten(error: OSError, target: Path) -> AllmendError:
    """What the system said about a file that could not be written or read, in words."""
    where, words = str(error.filename or target), error.strerror or str(error)
    if error.errno in _FULL:
        return DoesNotFit(
            f"the disk took no more ({words}), and what was made of the release is gone again",
            where=str(target),
            hint="Free some space, or name another disk with --to.",
        )
    return InputError(f"the release could not be made: {words}", where=where, hint="Name another place with --to.")


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
            frozenset({len(loaded.tokenizer), token_count(loaded)}),
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
        made = [] if self.order.whole else [self._adapter(draft)]
        merged = self._merged(draft, made)
        base_gguf = self._gguf(draft, merged, made) if merged is not None and self.types else None
        return made, Case(draft, merged, self.expected, self.probes, self.order.loaded, base_gguf, self.order.bits)

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
                value[key] = origin(self.order.loaded) or public_name(about) if key != "base" else public_name(about)
                (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False), "utf-8")
        self._tokenizer(folder)
        return artefact(draft, "adapter", "adapter", "adapter", "f32")

    def _merged(self, draft: Path, artefacts: list[Artefact]) -> Path | None:
        order = self.order
        if not (order.merge or self.types or order.container or order.whole):
            return None
        keep = order.merge or order.container or order.whole
        name = "model" if order.whole else "merged"
        folder = (draft if keep else self.scratch) / name
        folder.mkdir()
        order.stage("Copying the model" if order.whole else "Merging")
        merge(order.loaded.folder, order.weights, folder, order.amount)
        self._tokenizer(folder)
        if keep:
            artefacts.append(artefact(draft, name, "merged", name, stored(folder)))
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
            artefacts.append(artefact(draft, f"gguf-{type_}", "gguf", f"gguf/{path.name}", type_))
        base_gguf: Path | None = None
        if order.whole:
            pass  # there is no adapter beside the model
        elif order.weights.magnitudes:
            self.notes.append("The adapter is a DoRA, which a GGUF adapter cannot hold; only the merged model is GGUF.")
        else:
            path = folder / f"{self.name}-adapter.gguf"
            files.adapter(path)
            base_gguf, base_type = files.base(self.scratch)
            artefacts.append(artefact(draft, "gguf-adapter", "gguf_adapter", f"gguf/{path.name}", "f32", base_type))
        pieces = modelfile.pieces(self.template, self.expected.marks.bos_text, self.eos_text)
        if pieces is None:
            self.notes.append("The chat template cannot be said in Ollama's language; its Modelfile has none.")
        text = modelfile.modelfile(
            f"{self.name}-{self.types[0]}.gguf", pieces, self.expected.generation, self._stops(), self.terms.notice
        )
        (folder / modelfile.NAME).write_text(text, "utf-8")
        return base_gguf

    def _stops(self) -> list[str]:
        """What ends an answer: the tokenizer's end mark, and those that the makers name beside it."""
        named = self.expected.generation.get("eos_token_id")
        ids = [token for token in (named if isinstance(named, list) else [named]) if isinstance(token, int)]
        texts = [self.eos_text, *self.order.loaded.tokenizer.convert_ids_to_tokens(ids)]
        return list(dict.fromkeys(text for text in texts if text))

    def _prove(self, case: Case, artefacts: list[Artefact]) -> Proof:
        order = self.order
        order.stage(f"Asking the tested model {len(self.probes.rows)} held-out prompts")
        tested = order.loaded
        if order.bits is not None:
            tested = load(order.loaded.about, "float32", bits=order.bits)
        truth = ask_tested(tested, order.weights, self.probes)
        del tested
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
        self.notes += gguf_files.origin_notes(loaded, order.whole)
        if order.bits is not None:
            self.notes.append(rounded_note(order.bits, proof.agreements))
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
            base_origin=origin(loaded),
            terms=self.terms,
            data=order.data,
            data_digest=order.data_digest,
            data_licence=order.data_licence,
            rows=order.splits,
            verdict=order.verdict,
            template=order.template.name,
            lora=None if order.whole else order.weights.about(),
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
            base_origin=origin(loaded),
            adapter_digest=None if order.whole else order.weights.digest,
            data_digest=order.data_digest,
            template=order.template.name,
            template_digest=self.template.digest,
            licence=self.terms.name or ("Gemma Terms of Use" if self.terms.notice else None),
            artefacts=artefacts,
            agreements=proof.agreements,
            signed=order.sign is not None,
            notes=self.notes,
        )
        licences.put(self.terms, draft, "training all of them" if order.whole else "adding a LoRA adapter")
        if order.verdict is not None:
            (draft / listing.VERDICT).write_text(leaving(order.verdict).to_json(), "utf-8")
        files = files_of_artefacts(draft, artefacts)
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


def rounded_note(bits: int, agreements: Sequence[Agreement]) -> str:
    """What it means that the adapter was tested on a rounded base, and what it costs here."""
    worst = max(agreements, key=lambda found: found.loss_difference)
    words = (
        f"The adapter was tuned and tested on the base rounded to {bits} bits; what leaves is for the base itself, "
        f"where the loss per answer token differs by {worst.loss_difference:.3f} at most ({worst.artefact})"
    )
    if worst.metric is not None:
        words += f" and {cost(worst)}"
    return words + "."


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
