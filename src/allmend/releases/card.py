"""The model card: what it is, where it comes from, what was measured, what was not. Filled from the run alone."""

from __future__ import annotations

import json

from allmend.nouns.release import Agreement, Artefact
from allmend.nouns.verdict import Forgetting, Norms, Verdict
from allmend.releases.facts import Facts


def card(facts: Facts, artefacts: list[Artefact]) -> str:
    """README.md, with the front matter that hubs read."""
    parts = [
        _front(facts),
        f"# {facts.name}\n",
        f"{_what(facts)} **{facts.base_name}**, made with "
        f"allmend {facts.version} on {facts.made[:10]} from run `{facts.run.id}`.\n",
        _verdict(facts.verdict),
        _artefacts(artefacts, facts.agreements),
        _origin(facts),
        _training(facts),
        _use(facts),
        _licence(facts),
        "## Checking it\n\n```sh\nallmend ship verify .\n```\n\nchecks every byte, statement and signature without a "
        "network. `parity.json` holds what every file answered, row by row.\n",
    ]
    return "\n".join(part for part in parts if part)


def _what(facts: Facts) -> str:
    if facts.lora is None:
        return "All weights learned, beginning with"
    return "A LoRA adapter, alone or merged, on"


def _front(facts: Facts) -> str:
    lines = ["---", f"base_model: {json.dumps(facts.base_name)}"]
    name = (facts.terms.name or "").lower()
    if "gemma" in name:
        lines.append("license: gemma")
    elif name:
        lines += [f"license: {json.dumps(facts.terms.name)}"]
    library, tags = ("transformers", ["- full"]) if facts.lora is None else ("peft", ["- lora"])
    lines += [f"library_name: {library}", "pipeline_tag: text-generation", "tags:", *tags, "- allmend", "---", ""]
    return "\n".join(lines)


def _verdict(verdict: Verdict | None) -> str:
    if verdict is None:
        return "## Verdict\n\n**Not judged**: the run has no verdict. Whether it is better than its base is unknown.\n"
    lines = [
        "## Verdict",
        "",
        f"Against its base on {verdict.held_out_rows} rows that training never saw: **{verdict.words}**.",
        "",
        f"| metric | base | tuned | difference | {verdict.confidence:.0%} interval | rows |",
        "|---|---|---|---|---|---|",
    ]
    for measure in verdict.measures:
        interval = "—" if measure.low is None else f"{measure.low:+.3f} to {measure.high:+.3f}"
        lines.append(
            f"| {measure.name} | {measure.base:.3f} | {measure.tuned:.3f} | {measure.difference:+.3f} | {interval} "
            f"| {measure.rows} |"
        )
    lines += ["", *(f"- {note}" for note in verdict.notes)]
    return "\n".join(lines) + "\n"


def _artefacts(artefacts: list[Artefact], agreements: list[Agreement]) -> str:
    by_name = {agreement.artefact: agreement for agreement in agreements}
    lines = [
        "## Files, and how far each is what was tested",
        "",
        "Loss is per answer token; a difference is against the tested model on the same held-out prompts.",
        "",
        "| file | format | size | loaded by | prompts equal | loss | difference | costs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for artefact in artefacts:
        found = by_name.get(artefact.name)
        size = f"{artefact.bytes / 2**20:.0f} MiB"
        kind = artefact.type + (f", on a base in {artefact.on}" if artefact.on else "")
        if found is None:
            lines.append(f"| `{artefact.path}` | {kind} | {size} | **not tested** | | | | |")
            continue
        lines.append(
            f"| `{artefact.path}` | {kind} | {size} | {found.consumer} | {found.ids_equal} of {found.rows} "
            f"| {found.loss:.4f} | {found.loss_difference:.4f} (worst {found.loss_worst:.3f}) | {cost(found)} |"
        )
    return "\n".join(lines) + "\n"


def cost(found: Agreement) -> str:
    """What this format costs in quality, in words with their interval."""
    if found.metric is None or found.value is None or found.reference is None:
        return "no labels to tell by"
    lost = found.reference - found.value
    if found.low is not None and found.low <= 0 <= (found.high or 0):
        words = "no difference shown"
    else:
        words = "worse" if lost > 0 else "better"
    return (
        f"{words}: {found.metric} {found.reference:.3f} → {found.value:.3f} "
        f"({found.low or 0:+.3f} to {found.high or 0:+.3f})"
    )


def _origin(facts: Facts) -> str:
    base = facts.base
    rows = ", ".join(f"{count} {name}" for name, count in facts.rows.items()) or "not recorded"
    lines = [
        "## Where it comes from",
        "",
        f"- Base: `{facts.base_name}`" + (f", revision `{base.revision}`" if base.revision else "")
        + f", {base.format}, SHA-256 `{base.digest}`",
        f"- Data: {facts.data}, SHA-256 `{facts.data_digest or 'not recorded'}`; rows: {rows}; "
        f"licence: {facts.data_licence or 'not known'}",
        f"- Run: `{facts.run.id}`; lineage in `lineage.intoto.json`, bill of materials in `bom.cdx.json`",
        *(f"- {note}" for note in facts.notes),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _training(facts: Facts) -> str:
    run = facts.run
    seconds = run.metric("training_seconds")
    environment = run.environment
    chosen = {choice.name: choice.value for choice in run.choices}
    lines = [
        "## Training",
        "",
        "- All weights were learned"
        if facts.lora is None
        else f"- LoRA of rank {facts.lora.rank}, alpha {facts.lora.alpha:g}, on {', '.join(facts.lora.targets)}",
        f"- Chat template: {facts.template} (`chat_template.jinja` beside every artefact)",
        f"- Budget {run.settings.get('budget', 'not recorded')} s; trained for "
        + (f"{seconds.last:.0f} s" if seconds and seconds.last is not None else "a time that was not recorded")
        + f", {chosen.get('steps', '?')} steps, learning rate "
        f"{run.settings.get('learning_rate') or chosen.get('learning_rate', '?')}",
        f"- On {environment.get('cpu', 'an unknown processor')}, {environment.get('cores', '?')} cores, "
        f"torch {environment.get('torch', '?')}, {chosen.get('dtype', '?')}",
        "- Every setting and automatic choice, with its reason: `lineage.intoto.json`",
    ]
    return "\n".join(lines) + "\n"


def _use(facts: Facts) -> str:
    verdict = facts.verdict
    labels = verdict is not None and verdict.metric == "accuracy"
    task = "telling the labels of its data apart" if labels else "continuing texts like those of its data"
    lines = [
        "## Intended use, and what was not tested",
        "",
        f"- Made for {task} ({facts.data}); nothing else was tested.",
        "- Not tested: other languages, longer texts, safety, bias, attempts to mislead it, and whether the data's "
        "contents may be reproduced.",
    ]
    lines += _forgetting(verdict.forgetting if verdict else None)
    lines += _norms(verdict.norms if verdict else None)
    return "\n".join(lines) + "\n"


def _forgetting(found: Forgetting | None) -> list[str]:
    if found is None:
        return ["- Forgetting (what the base could do before) was not measured."]
    measures = "; ".join(f"{each.name} {each.base:.3f} → {each.tuned:.3f}" for each in found.measures)
    return [f"- Of what the base could do before, {found.words}: {measures}."]


def _norms(found: Norms | None) -> list[str]:
    if found is None:
        return ["- Norms of behaviour were not measured."]
    lines = [f"- Norms of behaviour: {len(found.results) - len(found.broken)} of {len(found.results)} hold."]
    for result in found.results:
        undecided = f", {result.undecided} undecided" if result.undecided else ""
        lines.append(
            f"  - {result.kind.replace('_', ' ')}: {result.name}: kept in {result.tuned_held} of {result.asked} answers"
            f" (by the base in {result.base_held}){undecided}"
        )
    return lines


def _licence(facts: Facts) -> str:
    lines = ["## Licence", ""]
    if facts.terms.name:
        lines.append(f"The base is under **{facts.terms.name}**, and so is what was made from it.")
    elif facts.terms.files:
        lines.append("The base names no licence; the files that lie beside it were copied, and not read.")
    else:
        lines.append("**The base states no licence.** Without one nobody may pass it on; ask its makers.")
    if facts.terms.files:
        lines.append("Copies lie in `licence/`" + (", with the notice in `NOTICE`." if facts.terms.notice else "."))
    if facts.terms.restrictions:
        lines += ["", facts.terms.restrictions]
    lines += ["", f"The data's licence: {facts.data_licence or 'not known; whoever passes this on must know it'}."]
    return "\n".join(lines) + "\n"
