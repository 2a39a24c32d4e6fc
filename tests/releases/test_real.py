"""The default model, tuned for moments, shipped as docs/ship.md says: every consumer gives the same verdict as here."""

from __future__ import annotations

import json
import re

import pytest

from allmend.nouns.release import Release
from allmend.releases.licences import GEMMA_NOTICE
from allmend.verbs.ship import verify
from documented import Reader, commands

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.mark.timeout(1800)
def test_every_format_is_what_was_tested(reader: Reader) -> None:
    reader.try_line(next(line for line in commands("docs/ship.md") if "--to my-release" in line))
    place = reader.folder / "my-release"
    release = Release.from_json((place / "release.json").read_text())
    found = {agreement.artefact: agreement for agreement in release.agreements}
    assert set(found) == {"adapter", "merged", "gguf-bf16", "gguf-q8_0", "gguf-q4_k_m", "gguf-adapter"}
    for agreement in release.agreements:
        assert agreement.passed and agreement.ids_equal == agreement.rows
        assert agreement.low is not None and agreement.high is not None and agreement.low <= 0 <= agreement.high
    assert found["merged"].texts_equal >= found["merged"].texts - 1  # two nearly equal tokens may change places
    sizes = {artefact.name: artefact.bytes for artefact in release.artefacts}
    assert sizes["gguf-q4_k_m"] < sizes["gguf-q8_0"] < sizes["gguf-bf16"]
    # The base came from a 4-bit GGUF: what that means is said, and its terms travel along.
    assert any("came from a GGUF in q4_k_m" in note for note in release.notes)
    assert GEMMA_NOTICE in (place / "NOTICE").read_text()
    assert re.search(r"Gemma", (place / "licence" / "GEMMA_TERMS.html").read_text())
    statement = json.loads((place / "lineage.intoto.json").read_text())
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert dependencies[0]["digest"]["sha256"] == release.base_digest
    assert verify(place).problems == []
