"""Holding every artefact to what was tested: its files by audit, its behaviour by parity, a breach by its cause."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allmend import adapters
from allmend.adapters import attach_weights, detach
from allmend.data import encode_prompt
from allmend.data import templates as chat_templates
from allmend.errors import AllmendError, Unavailable
from allmend.models.loading import Loaded
from allmend.nouns.release import Agreement, Artefact, Breach
from allmend.releases import audit_gguf, audit_settings, audit_weights
from allmend.releases.causes import breach
from allmend.releases.expected import Expected
from allmend.releases.parity import ours
from allmend.releases.parity.compare import compare
from allmend.releases.parity.llamacpp import by_llamacpp
from allmend.releases.parity.probes import Probes, Replies
from allmend.releases.parity.thresholds import allowed
from allmend.releases.parity.torch_consumers import CannotLoad, by_peft, by_transformers


@dataclass
class Proof:
    """What was found."""

    agreements: list[Agreement] = field(default_factory=list)
    breaches: list[Breach] = field(default_factory=list)
    replies: dict[str, Replies] = field(default_factory=dict)
    """By artefact and consumer, with `tested` for the tested model."""


@dataclass(frozen=True)
class Case:
    """All that is needed to prove artefacts."""

    folder: Path
    """Of the release in the making."""
    merged: Path | None
    """The merged folder that GGUF files were written from."""
    expected: Expected
    probes: Probes
    loaded: Loaded
    """The base in memory, without LoRA."""
    base_gguf: Path | None = None
    """A GGUF of the base that the GGUF adapter is put on."""
    bits: int | None = None
    """8 or 4 where what was tested was the base rounded so."""


def ask_tested(loaded: Loaded, weights: adapters.AdapterWeights, probes: Probes) -> Replies:
    """What the run's own adapter gives, in the passes that its verdict used."""
    lora = attach_weights(loaded.model, weights)
    try:
        return ours.replies(loaded, probes)
    finally:
        detach(loaded.model, lora)


def prove(
    case: Case, artefacts: list[Artefact], truth: Replies, stage: Callable[[str], None] = lambda _: None
) -> Proof:
    """Hold every artefact to the truth; nothing is blessed that was not asked."""
    proof = Proof(replies={"tested": truth})
    for artefact in artefacts:
        stage(f"Checking {artefact.name}")
        found = audit(case, artefact)
        proof.breaches += found
        if any(one.cause in ("truncated", "unreadable") for one in found):
            continue
        for consumer in _CONSUMERS[artefact.kind]:
            _ask(case, artefact, consumer, truth, proof, bool(found))
    return proof


def audit(case: Case, artefact: Artefact) -> list[Breach]:
    """What the artefact's own files give away."""
    path, expected, name = case.folder / artefact.path, case.expected, artefact.name
    if artefact.kind == "adapter":
        return _adapter(name, path, expected) + audit_settings.tokenizer(name, path, expected)
    if artefact.kind == "merged":
        found = audit_settings.settings(name, path, expected) + audit_settings.tokenizer(name, path, expected)
        return found + audit_weights.weights(name, path, expected)
    if artefact.kind == "gguf_adapter":
        return audit_gguf.adapter(name, path, expected)
    assert case.merged is not None
    return audit_gguf.gguf(name, path, case.merged, artefact.type, expected)


def _adapter(name: str, path: Path, expected: Expected) -> list[Breach]:
    try:
        here = adapters.read(path)
    except AllmendError as error:
        cause = "truncated" if "damaged" in error.message else "unreadable"
        return [breach(name, cause, error.message, error.where or "")]
    there, found = expected.weights, []
    if here.base_digest and here.base_digest != expected.base_digest:
        found.append(breach(name, "base", "it names another base", f"{expected.base_digest} → {here.base_digest}"))
    for module in there.modules:
        if module not in here.modules:
            return [*found, breach(name, "weights", "it lacks a part of the adapter", module)]
        a, b = here.config_of(module).scale, there.config_of(module).scale
        if abs(a - b) > 1e-6 * b:
            words = f"the adapter acts with {a / b:.3g} times its strength"
            return [*found, breach(name, "alpha", words, f"scale {b:g} became {a:g} on {module}")]
    if here.digest != there.digest:
        found.append(breach(name, "weights", "its matrices are not those of the run", here.digest))
    return found


def _by_allmend(case: Case, path: Path, probes: Probes) -> Replies:
    """The shipped folder as `allmend serve` reads it."""
    weights = adapters.read(path)
    template = chat_templates.read(path)
    lora = attach_weights(case.loaded.model, weights)
    try:
        made = ours.replies(case.loaded, probes, write=False)
    finally:
        detach(case.loaded.model, lora)
    asked = [row for row in probes.rows if row.messages]
    prompts = iter([encode_prompt(row.messages, case.loaded.tokenizer, template, tools=row.tools) for row in asked])
    made.prompts = [next(prompts) if row.messages else row.prompt for row in probes.rows]
    return made


def _peft(case: Case, path: Path, probes: Probes) -> Replies:
    return by_peft(case.loaded.model, path, probes)


def _transformers(case: Case, path: Path, probes: Probes) -> Replies:
    return by_transformers(path, probes)


def _llamacpp(case: Case, path: Path, probes: Probes) -> Replies:
    return by_llamacpp(path, probes, decode=case.loaded.tokenizer.decode)


def _llamacpp_adapter(case: Case, path: Path, probes: Probes) -> Replies:
    if case.base_gguf is None:
        raise Unavailable("there is no GGUF of the base to put the adapter on")
    # The base's file has its own template or none; what llama.cpp is told with the adapter is the adapter's.
    return by_llamacpp(
        case.base_gguf, probes, adapter=path, template=case.expected.template, decode=case.loaded.tokenizer.decode
    )


Consumer = Callable[[Case, Path, Probes], Replies]
_CONSUMERS: dict[str, tuple[Consumer, ...]] = {
    "adapter": (_by_allmend, _peft),
    "merged": (_transformers,),
    "gguf": (_llamacpp,),
    "gguf_adapter": (_llamacpp_adapter,),
}


def _ask(case: Case, artefact: Artefact, consumer: Consumer, truth: Replies, proof: Proof, explained: bool) -> None:
    path = case.folder / artefact.path
    try:
        made = consumer(case, path, case.probes)
    except CannotLoad as error:
        proof.breaches.append(breach(artefact.name, "unreadable", f"its consumer cannot load it: {error}"))
        return
    except (AllmendError, ValueError, RuntimeError) as error:
        if isinstance(error, Unavailable):
            raise
        proof.breaches.append(breach(artefact.name, "unreadable", f"it cannot be asked: {str(error)[:300]}"))
        return
    limit = allowed(artefact.type, artefact.on, case.bits)
    found = compare(artefact.name, limit, truth, made, case.probes, case.expected.marks.bos_text)
    proof.agreements.append(found)
    proof.replies[f"{artefact.name} by {made.consumer}"] = made
    if explained:
        return
    if not found.passed:
        proof.breaches += diagnose(artefact, found, truth, made, case)
    elif case.bits is not None and found.metric is not None and found.high is not None and found.high < 0:
        proof.agreements[-1] = found.model_copy(update={"passed": False})
        words = f"it was tested on the base rounded to {case.bits} bits, and on the base itself it is worse"
        evidence = (
            f"{found.metric} {found.reference:.3f} became {found.value:.3f} ({found.low:+.3f} to {found.high:+.3f})"
        )
        proof.breaches.append(breach(artefact.name, "rounded", words, evidence))


def diagnose(artefact: Artefact, found: Agreement, truth: Replies, made: Replies, case: Case) -> list[Breach]:
    """Why an artefact whose files look right answers otherwise."""
    name, marks = artefact.name, case.expected.marks
    for mine, theirs, wanted, got in zip(truth.prompts, made.prompts, truth.texts, made.texts, strict=True):
        if mine == theirs:
            continue
        if marks.bos is not None:
            before = _leading(mine, marks.bos)
            after = _leading(theirs, marks.bos)
            if before != after:
                words = f"{made.consumer} begins prompts with {after} begin marks instead of {before}"
                return [breach(name, "bos", words, f"{mine[:4]} became {theirs[:4]}")]
        if wanted.removeprefix(marks.bos_text) != got.removeprefix(marks.bos_text):
            words = f"{made.consumer} writes another prompt than what was tested"
            return [breach(name, "template", words, f"{wanted[:120]!r} became {got[:120]!r}")]
        words = f"{made.consumer} reads the same text as other tokens"
        return [breach(name, "tokens", words, f"{mine[:12]} became {theirs[:12]}")]
    if found.template_equal < found.rows:
        return [breach(name, "template", f"{made.consumer} writes another prompt than what was tested")]
    evidence = (
        f"loss differs by {found.loss_difference:.4f} a token (allowed {found.allowed_mean}), "
        f"worst row {found.loss_worst:.3f} (allowed {found.allowed_worst})"
    )
    if case.bits is not None:
        words = f"it was tested on the base rounded to {case.bits} bits, and on the base itself it answers otherwise"
        return [breach(name, "rounded", words, evidence)]
    cause = "quality" if artefact.type.startswith("q") and artefact.type != "q8_0" else "behaviour"
    words = "it answers otherwise than what was tested"
    if cause == "quality":
        words = f"rounding to {artefact.type} costs more than its threshold allows"
    return [breach(name, cause, words, evidence)]


def _leading(ids: list[int], token: int) -> int:
    count = 0
    while count < len(ids) and ids[count] == token:
        count += 1
    return count


def report(proof: Proof, probes: Probes, *, texts: bool) -> dict[str, Any]:
    """`parity.json`: every artefact's agreement, and its answer to every question.

    Args:
        texts: with prompts and answers as texts. They are rows of somebody's data, so what leaves has their digests.
    """
    truth = proof.replies["tested"]
    return {
        "schema": "allmend.parity/1",
        "agreements": [agreement.model_dump(mode="json") for agreement in proof.agreements],
        "breaches": [one.model_dump(mode="json") for one in proof.breaches],
        "labels": probes.labels,
        "rows": [
            {
                "prompt": row.text if texts else hashlib.sha256(row.text.encode()).hexdigest(),
                "tokens": len(row.prompt),
                "tested": {"loss": truth.losses[place], "label": _label(truth, place, probes)},
                **{
                    name: {
                        "loss": made.losses[place],
                        "label": _label(made, place, probes),
                        **({"answer": made.answers[place]} if texts and place < len(made.answers) else {}),
                    }
                    for name, made in proof.replies.items()
                    if name != "tested"
                },
            }
            for place, row in enumerate(probes.rows)
        ],
    }


def _label(made: Replies, place: int, probes: Probes) -> str | None:
    return probes.labels[made.labels[place]] if probes.labels and made.labels is not None else None
