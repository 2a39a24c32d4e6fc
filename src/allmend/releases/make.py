"""Making a release: merge, convert, prove, describe, sign; a folder that appears whole, or not at all."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from allmend.data.tokens import marks
from allmend.errors import AllmendError, DoesNotFit, InputError
from allmend.models.loading import load
from allmend.nouns.release import Agreement, Artefact, Release
from allmend.releases import container, gguf_files, licences, listing, modelfile, signing
from allmend.releases.describing import Named, describe, rounded_note
from allmend.releases.drafted import artefact, origin, stored, token_count
from allmend.releases.expected import Expected, Marks
from allmend.releases.facts import public_name
from allmend.releases.gguf.settings import settings_of
from allmend.releases.gguf.types import checked
from allmend.releases.merge import merge
from allmend.releases.order import Order
from allmend.releases.parity import probes as probing
from allmend.releases.prove import Case, Proof, ask_tested, prove, report
from allmend.releases.refusing import refusal

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "vocab.txt", "spiece.model",
)  # fmt: skip


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
        if self.order.container:
            container.write(draft, self.name)
        notes = [*self.notes, *self._more_notes(proof.agreements)]
        named = Named(self.name, self.terms, self.template.digest, notes)
        return describe(draft, self.order, named, artefacts, proof.agreements)

    def _more_notes(self, agreements: Sequence[Agreement]) -> list[str]:
        notes = gguf_files.origin_notes(self.order.loaded, self.order.whole)
        if self.order.bits is not None:
            notes.append(rounded_note(self.order.bits, agreements))
        return notes if self.types else [*notes, "No GGUF was made."]

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
