"""What a release says of itself: card, lineage, bill of materials, listing, sums and signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from allmend import __version__
from allmend.nouns.release import Agreement, Artefact, Release
from allmend.releases import licences, lineage, listing, signing
from allmend.releases.card import card, cost
from allmend.releases.drafted import files_of_artefacts, leaving, origin
from allmend.releases.facts import Facts, public_name
from allmend.releases.order import Order


@dataclass(frozen=True)
class Named:
    """What describing takes over from making."""

    name: str
    terms: licences.Terms
    template_digest: str
    notes: list[str]
    """Sentences about what was made, and what was not."""


def describe(
    draft: Path, order: Order, named: Named, artefacts: list[Artefact], agreements: list[Agreement]
) -> Release:
    """Write all that a release says of itself, and its signature where one is asked for."""
    order.stage("Writing card, lineage and bill of materials")
    loaded, notes = order.loaded, named.notes
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
    facts = Facts(
        name=named.name,
        made=made,
        version=__version__,
        run=order.run,
        base=loaded.about,
        base_origin=origin(loaded),
        terms=named.terms,
        data=order.data,
        data_digest=order.data_digest,
        data_licence=order.data_licence,
        rows=order.splits,
        verdict=order.verdict,
        template=order.template.name,
        lora=None if order.whole else order.weights.about(),
        agreements=agreements,
        notes=notes,
        settings=order.settings,
    )
    release = Release(
        name=named.name,
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
        template_digest=named.template_digest,
        licence=named.terms.name or ("Gemma Terms of Use" if named.terms.notice else None),
        artefacts=artefacts,
        agreements=agreements,
        signed=order.sign is not None,
        notes=notes,
    )
    licences.put(named.terms, draft, "training all of them" if order.whole else "adding a LoRA adapter")
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
