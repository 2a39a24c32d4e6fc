"""Why a release is refused, in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from allmend.errors import Refused
from allmend.nouns.release import Breach


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
