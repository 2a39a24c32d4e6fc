"""The default model, tuned for moments, shipped in every format: every consumer gives the same verdict as here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from allmend.releases.licences import GEMMA_NOTICE
from allmend.verbs.ship import ship, verify
from allmend.verbs.tune import tune

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.mark.timeout(3000)
def test_every_format_is_what_was_tested(
    tmp_path: Path, shared_home: Callable[[Path], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in shared_home(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    from allmend.models.rated_rows import examples_file

    rows = examples_file("movie-reviews").read_text().splitlines()[:200]
    data = tmp_path / "reviews.jsonl"
    data.write_text("\n".join(rows) + "\n")
    run = tune(data, budget=240, epochs=0.75, dtype="float32", batch=8, rank=8, trials=1)
    release = ship(run.id, merge=True, gguf="bf16,q8_0,q4_k_m", to=tmp_path / "release", prompts=8)
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
    assert GEMMA_NOTICE in (tmp_path / "release" / "NOTICE").read_text()
    assert re.search(r"Gemma", (tmp_path / "release" / "licence" / "GEMMA_TERMS.html").read_text())
    statement = json.loads((tmp_path / "release" / "lineage.intoto.json").read_text())
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert dependencies[0]["digest"]["sha256"] == release.base_digest
    assert verify(tmp_path / "release").problems == []
