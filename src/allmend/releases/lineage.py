"""Base digest, data digest, run, artefacts: an in-toto statement with SLSA provenance, and a CycloneDX ML-BOM.

https://github.com/in-toto/attestation (Statement v1), https://slsa.dev/spec/v1.0/provenance, https://cyclonedx.org.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from allmend.nouns.verdict import Measure
from allmend.releases.facts import Facts, public

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:allmend:ship:1"


def statement(facts: Facts, files: dict[str, str]) -> str:
    """The in-toto statement.

    Args:
        files: relative path of every artefact's file: SHA-256.
    """
    run = facts.run
    dependencies = [
        {"name": f"base:{facts.base_name}", "digest": {"sha256": facts.base.digest}},
        {"name": "data", "digest": {"sha256": facts.data_digest}} if facts.data_digest else None,
    ]
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"ship": public(facts.settings), "tune": public(run.settings)},
            "internalParameters": {
                "choices": [{"name": c.name, "value": public(c.value), "reason": c.reason} for c in run.choices]
            },
            "resolvedDependencies": [dependency for dependency in dependencies if dependency],
        },
        "runDetails": {
            "builder": {"id": f"urn:allmend:{facts.version}", "version": {"allmend": facts.version}},
            "metadata": {"invocationId": run.id, "startedOn": _time(run.started), "finishedOn": facts.made},
            "byproducts": [
                {"name": "environment", "annotations": _public(run.environment)},
                *([{"name": "verdict", "annotations": _said(facts)}] if facts.verdict else []),
            ],
        },
    }
    subjects = [{"name": path, "digest": {"sha256": digest}} for path, digest in sorted(files.items())]
    value = {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": PREDICATE_TYPE, "predicate": predicate}
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _time(moment: Any) -> str:
    return str(moment.strftime("%Y-%m-%dT%H:%M:%SZ"))


def _public(environment: dict[str, Any]) -> dict[str, Any]:
    """Without the machine's name, which is nobody's business."""
    return {key: value for key, value in environment.items() if key != "machine"}


def _said(facts: Facts) -> dict[str, Any]:
    assert facts.verdict is not None
    main = facts.verdict.main
    return {
        "words": facts.verdict.words,
        "metric": main.name,
        "base": main.base,
        "tuned": main.tuned,
        "low": main.low,
        "high": main.high,
        "rows": main.rows,
    }


def bill(facts: Facts, files: dict[str, str]) -> str:
    """The bill of materials, CycloneDX 1.6 JSON; the same bytes for the same release."""
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    def part(kind: ComponentType, name: str, digest: str | None, licence: str | None = None, **more: Any) -> Component:
        return Component(
            type=kind,
            name=name,
            bom_ref=f"{kind.value}:{name}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)] if digest else [],
            licenses=[DisjunctiveLicense(name=licence)] if licence else [],
            **more,
        )

    from datetime import datetime

    model = ComponentType.MACHINE_LEARNING_MODEL
    whole = part(model, facts.name, None, facts.terms.name, version=facts.run.id)
    base = part(
        model, facts.base_name, facts.base.digest, facts.terms.name, version=facts.base.revision,
        properties=[Property(name="allmend:format", value=facts.base.format)],
    )  # fmt: skip
    data = part(ComponentType.DATA, facts.data, facts.data_digest, facts.data_licence)
    made = [part(ComponentType.FILE, path, digest) for path, digest in sorted(files.items())]
    tools = [
        part(ComponentType.LIBRARY, name, None, version=str(facts.run.environment[name]))
        for name in ("torch", "transformers", "tokenizers")
        if name in facts.run.environment
    ]
    bom = Bom(
        components=[base, data, *made, *tools],
        serial_number=uuid5(NAMESPACE_URL, json.dumps([facts.run.id, facts.made, sorted(files.items())])),
    )
    bom.metadata.timestamp = datetime.fromisoformat(facts.made)
    bom.metadata.component = whole
    bom.register_dependency(whole, [base, data, *made, *tools])
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
    value = json.loads(text)
    value["metadata"]["component"]["modelCard"] = _model_card(facts)
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _model_card(facts: Facts) -> dict[str, Any]:
    """The part of CycloneDX that its Python library does not write yet."""
    found: dict[str, Any] = {
        "modelParameters": {
            "task": "text-generation",
            "architectureFamily": "transformer",
            "datasets": [{"ref": f"data:{facts.data}"}],
        },
        "considerations": {
            "useCases": [f"The task of its data: {facts.data}."],
            "technicalLimitations": ["Nothing but the measures in README.md was tested."],
        },
    }
    if facts.verdict:

        def interval(measure: Measure) -> dict[str, Any]:
            if measure.low is None or measure.high is None:
                return {}
            return {"confidenceInterval": {"lowerBound": f"{measure.low:+.4f}", "upperBound": f"{measure.high:+.4f}"}}

        found["quantitativeAnalysis"] = {
            "performanceMetrics": [
                {
                    "type": measure.name,
                    "value": f"{measure.tuned:.4f}",
                    "slice": "held-out rows",
                    **interval(measure),
                }
                for measure in facts.verdict.measures
            ]
        }
    return found
