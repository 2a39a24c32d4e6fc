"""The small files beside weights: configurations, templates, the card; what they name and what they would run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from allmend.planning.models.gathered import Gathered
from allmend.planning.models.licences import limits
from allmend.planning.models.templates import beyond_text

RELEASE = "release.json"


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_texts(found: Gathered, texts: dict[str, str], names: list[str]) -> None:
    """Gather what the small files say: remote code, base, template, licence.

    Args:
        texts: their contents by name.
        names: of all files, with or without text.
    """
    _release(found, _json(texts.get(RELEASE)))
    _adapter(found, _json(texts.get("adapter_config.json")))
    _remote_code(found, texts, [name for name in names if name.endswith(".py")])
    _templates(found, texts)
    _card(found, texts.get("README.md", ""), names)


def _adapter(found: Gathered, adapter: dict[str, Any]) -> None:
    if not adapter:
        return
    found.kind = "adapter"
    base = adapter.get("base_model_name_or_path")
    if isinstance(base, str) and base:
        found.base = base
        found.why.append(f"An adapter on {base}.")
        if re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?", base):
            found.effect("model", f"hf:{base}", revision=adapter.get("revision"))
    if isinstance(adapter.get("auto_mapping"), dict):
        found.why.append("It names its own model class (auto_mapping).")


def _remote_code(found: Gathered, texts: dict[str, str], scripts: list[str]) -> None:
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


def _templates(found: Gathered, texts: dict[str, str]) -> None:
    template = _json(texts.get("tokenizer_config.json")).get("chat_template")
    pieces: list[Any] = [template]
    if isinstance(template, list):
        pieces = [part.get("template") for part in template if isinstance(part, dict)]
    pieces.extend(text for name, text in texts.items() if name.endswith(".jinja"))
    extra = _json(texts.get("chat_template.json")).get("chat_template")
    pieces.append(extra)
    for piece in pieces:
        if isinstance(piece, str) and not any(f.id == "template-beyond-text" for f in found.findings):
            read_template(found, Path(found.path).name, piece)


def _release(found: Gathered, release: dict[str, Any]) -> None:
    """A folder that says it was made by `allmend ship`; that its bytes are what was made is another verb's to check."""
    if release.get("schema") != "allmend.release/1":
        return
    found.why.append(f"It says that it is a release of {str(release.get('base'))[:120]}, made by `allmend ship`.")
    for artefact in release.get("artefacts") or []:
        if isinstance(artefact, dict):
            found.why.append(f"{str(artefact.get('path'))[:120]}: {artefact.get('kind')} in {artefact.get('type')}.")
    found.skip("its digests, statements and signature; `allmend ship verify` checks those")


_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)


def _card(found: Gathered, text: str, names: list[str]) -> None:
    match = _FRONT.match(text)
    front = match[1] if match else ""
    licence = re.search(r"^license:\s*[\"']?([\w.+-]+)", front, re.MULTILINE)
    named = re.search(r"^license_name:\s*[\"']?([\w.+-]+)", front, re.MULTILINE)
    if licence:
        read_licence(found, named[1] if named and licence[1] == "other" else licence[1])
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


def read_template(found: Gathered, name: str, template: str) -> None:
    """Gather what a chat template reaches for."""
    beyond = beyond_text(template)
    if beyond:
        found.effect("dynamic_code", f"chat template of {name}")
        found.finding(
            "template-beyond-text", "danger", f"The chat template of {name} reaches beyond text",
            f"It reaches for {', '.join(beyond)}. A template engine without a sandbox would run that with every message.",
            "Do not use this template; take the one of the base model.",
        )  # fmt: skip


def read_licence(found: Gathered, licence: str) -> None:
    """Gather a licence and what it limits."""
    found.why.append(f"Licence: {licence}.")
    for limit in limits(licence):
        found.finding(
            "licence-limits", "note", f"Its licence ({licence}) limits its use", f"The licence says: {limit}.",
            "Read it before you build on it or pass it on.",
        )  # fmt: skip
