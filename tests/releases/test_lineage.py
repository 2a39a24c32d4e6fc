"""Card, lineage and bill of materials say where a release comes from, in forms that others read."""

from __future__ import annotations

import json
from pathlib import Path

import small

from allmend.verbs.ship import ship


def test_the_statement_leads_from_base_and_data_to_every_file(place: Path) -> None:
    run = small.run(place)
    release = ship(run, merge=True, gguf="bf16", to=place / "out", prompts=2)
    statement = json.loads((place / "out" / "lineage.intoto.json").read_text())
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    assert {"merged/model.safetensors", "adapter/adapter_model.safetensors"} <= set(subjects)
    assert subjects["adapter/adapter_model.safetensors"] == release.adapter_digest
    definition = statement["predicate"]["buildDefinition"]
    digests = {part["name"]: part["digest"]["sha256"] for part in definition["resolvedDependencies"]}
    assert digests == {"base:base": release.base_digest, "data": release.data_digest}
    assert statement["predicate"]["runDetails"]["metadata"]["invocationId"] == run
    assert "machine" not in json.dumps(statement["predicate"]["runDetails"]["byproducts"])


def test_the_bill_of_materials_is_read_back_by_its_own_library(place: Path) -> None:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import ComponentType

    ship(small.run(place), merge=True, to=place / "out", prompts=2)
    value = json.loads((place / "out" / "bom.cdx.json").read_text())
    assert value["metadata"]["component"].pop("modelCard")["modelParameters"]["task"] == "text-generation"
    bom = Bom.from_json(value)  # type: ignore[attr-defined]
    kinds = {component.type for component in bom.components}
    assert {ComponentType.MACHINE_LEARNING_MODEL, ComponentType.DATA, ComponentType.FILE} <= kinds
