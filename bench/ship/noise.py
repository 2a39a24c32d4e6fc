"""What the thresholds of parity rest on: how far sound artefacts are from what was tested, by number format.

    python bench/ship/noise.py RUN [--prompts 48] [--formats q8_0,q6_k]

RUN is a tune run of the default model. Every format is made and asked with no limit set, and its mean and worst
differences in loss per answer token are written beside the thresholds of `releases/parity/thresholds.py`; so are those
between the base and the base rounded to 8 and 4 bits. The result is in noise.json beside this file. All formats take
about five minutes on two idle cores; with --formats only those are measured, and the other rows stay as they were.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from allmend import adapters, runs
from allmend.data import read_template
from allmend.models import resolve
from allmend.models.loading import load
from allmend.releases.parity import probes as probing
from allmend.releases.parity import thresholds
from allmend.releases.parity.compare import compare
from allmend.releases.prove import ask_tested
from allmend.verbs.ship import ship
from allmend.verbs.tune import TuneSettings
from allmend.verbs.tuning_rows import read_dataset

FORMATS = "f16,bf16,q8_0,q6_k,q5_k_m,q5_0,q4_k_m,q4_k_s,q4_0,q3_k_m,q2_k"
RESULT = Path(__file__).with_suffix(".json")


def row(name: str, found: Any, allowed: thresholds.Limit) -> dict[str, object]:
    """One line of the result."""
    return {
        "artefact": name,
        "consumer": found.consumer,
        "mean": round(found.loss_difference, 5),
        "worst": round(found.loss_worst, 4),
        "allowed mean": allowed.mean,
        "allowed worst": allowed.worst,
        "accuracy": [found.reference, found.value],
    }


def shipped(run: str, formats: str, prompts: int) -> list[dict[str, object]]:
    """Every artefact of a release made without limits."""
    limits, on_rounded = dict(thresholds.LIMITS), thresholds.ON_ROUNDED
    none = thresholds.Limit(1e9, 1e9)
    thresholds.LIMITS.update(dict.fromkeys(limits, none))
    thresholds.ON_ROUNDED = none
    with tempfile.TemporaryDirectory(prefix="noise-") as folder:
        release = ship(run, merge=True, gguf=formats, to=Path(folder) / "release", prompts=prompts)
    thresholds.LIMITS.update(limits)
    thresholds.ON_ROUNDED = on_rounded
    allowed = {artefact.name: thresholds.allowed(artefact.type, artefact.on) for artefact in release.artefacts}
    return [row(found.artefact, found, allowed[found.artefact]) for found in release.agreements]


def rounded(run: str, prompts: int) -> list[dict[str, object]]:
    """The base rounded to 8 and 4 bits, beside the base itself, with the adapter on both."""
    tuned = runs.show(run)
    settings = TuneSettings.of(tuned.settings)
    source = next(file.path for file in tuned.inputs if file.name == "data")
    rows, folder = read_dataset(source, settings), tuned.output("adapter") or ""
    weights, template, model = adapters.read(folder), read_template(Path(folder)), resolve(settings.model)
    plain = load(model, "float32")
    asked = probing.make(
        rows.held_out, rows.labels, plain.tokenizer, template, context=plain.context, count=prompts
    )  # fmt: skip
    truth = ask_tested(plain, weights, asked)
    found = []
    for bits, limit in thresholds.BASE_ROUNDED.items():
        made = ask_tested(load(model, "float32", bits=bits), weights, asked)
        found.append(row(f"base in {bits} bits", compare("", limit, truth, made, asked, ""), limit))
    return found


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--formats", default=FORMATS)
    asked = parser.parse_args()
    run, prompts, formats = asked.run, asked.prompts, asked.formats
    before = json.loads(RESULT.read_text())["rows"] if RESULT.exists() and formats != FORMATS else []
    rows = shipped(run, formats, prompts) + rounded(run, prompts)
    new = {(one["artefact"], one["consumer"]) for one in rows}
    kept = [one for one in before if (one["artefact"], one["consumer"]) not in new]
    result = {
        "command": "python bench/ship/noise.py RUN",
        "unit": "natural logarithm per answer token, absolute difference from the tested model",
        "prompts": prompts,
        "rows": sorted(kept + rows, key=lambda one: str(one["artefact"])),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "xllamacpp", "gguf")},
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
