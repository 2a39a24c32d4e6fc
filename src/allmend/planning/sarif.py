"""A plan as SARIF 2.1.0 (OASIS standard), for code scanning: findings as results, places as cell and line."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from allmend import __version__
from allmend.nouns.plan import Finding, Plan

_LEVELS = {"danger": "error", "warning": "warning", "note": "note"}


def sarif(plan: Plan) -> dict[str, Any]:
    """The SARIF document of one plan. What was not read is listed as notifications, never left out."""
    rules = {finding.id: finding for finding in plan.findings}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "allmend",
                        "version": __version__,
                        "rules": [
                            {
                                "id": name,
                                "shortDescription": {"text": finding.title},
                                "fullDescription": {"text": finding.why},
                                "help": {"text": finding.fix},
                                "defaultConfiguration": {"level": _LEVELS[finding.severity]},
                            }
                            for name, finding in sorted(rules.items())
                        ],
                    }
                },
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "toolExecutionNotifications": [
                            {"level": "note", "message": {"text": f"Not read, cell {item.cell}: {item.reason}"}}
                            for item in plan.unread
                        ],
                    }
                ],
                "results": [_result(plan, finding) for finding in plan.findings],
            }
        ],
    }


def _uri(path: str) -> str:
    """A path as a URI reference (RFC 3986), as SARIF wants it; addresses stay as they are."""
    if re.match(r"https?://", path):
        return quote(path, safe=":/?#[]@!$&'()*+,;=%~")
    return quote(path.replace("\\", "/"), safe="/~")


def _result(plan: Plan, finding: Finding) -> dict[str, Any]:
    places = finding.lines or [(cell, 1) for cell in finding.cells] or [(0, 1)]
    return {
        "ruleId": finding.id,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.title}. {finding.why} {finding.fix}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(plan.subject.path)},
                    "region": {"startLine": max(1, line)},
                },
                "logicalLocations": [{"name": f"cell {cell}", "fullyQualifiedName": f"cell {cell}, line {line}"}],
            }
            for cell, line in places[:10]
        ],
        "partialFingerprints": {"allmend/1": f"{finding.id}:{','.join(map(str, finding.cells))}"},
    }
