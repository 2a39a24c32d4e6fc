"""The base's licence travels with what is made from it; where it asks for more than a copy, that is done too."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allmend.errors import InputError, Refused
from allmend.nouns.model import Model

FOLDER = "licence"
GEMMA_NOTICE = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"
"""The sentence that section 3.1 of the Gemma Terms of Use asks for in a file called NOTICE."""

_NAMES = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "TERMS", "GEMMA_TERMS")


@dataclass(frozen=True)
class Terms:
    """What the base's licence asks of a release."""

    name: str | None
    files: list[Path] = field(default_factory=list)
    notice: str | None = None
    restrictions: str | None = None
    """In a sentence, for the card."""


def terms_of(model: Model, config: dict[str, Any], given: Path | None) -> Terms:
    """The licence of a base.

    Raises:
        Refused: it is a Gemma, whose terms must travel along, and no copy of them is at hand.
    """
    folder = model.path.parent if model.path.is_file() else model.path
    if given is not None and not given.is_file():
        raise InputError("there is no such licence file", where=str(given))
    files = [given] if given is not None else []
    files += [path for path in sorted(folder.iterdir()) if path.is_file() and path.name.upper().startswith(_NAMES)]
    if model.licence_file is not None and model.licence_file not in files and model.licence_file.is_file():
        files.append(model.licence_file)
    kind, name = str(config.get("model_type", "")), (model.licence or "").lower()
    if not (kind.startswith("gemma") or "gemma" in name):
        return Terms(model.licence, files)
    texts = [path for path in files if not path.name.upper().startswith("NOTICE")]
    if not texts:
        raise Refused(
            "the base is a Gemma: its terms and use restrictions must be passed on with anything made from it, "
            "and no copy of them lies beside the base",
            where=str(folder),
            hint="Put the Gemma Terms of Use beside the base, or name a file with --licence.",
        )
    return Terms(
        model.licence or "Gemma Terms of Use",
        files,
        GEMMA_NOTICE,
        "Use, and passing on what is made from it, are bound to the Gemma Terms of Use and the Gemma Prohibited Use "
        "Policy; whoever receives this must be given the same terms, and changed files must say "
        "that they were changed.",
    )


def put(terms: Terms, folder: Path, how: str = "adding a LoRA adapter") -> None:
    """Write `licence/` and, where asked for, `NOTICE`, which says `how` the weights were changed."""
    if terms.files:
        (folder / FOLDER).mkdir()
        for path in terms.files:
            shutil.copyfile(path, folder / FOLDER / path.name)
    if terms.notice:
        (folder / "NOTICE").write_text(
            terms.notice + f"\n\nThe weights in this folder were changed by {how}; README.md says how.\n",
            "utf-8",
        )
