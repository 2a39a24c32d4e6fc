"""What the thresholds of parity rest on: how far sound artefacts are from what was tested, by number format.

    python bench/ship/noise.py RUN [--prompts 64]     (result in noise.json beside this file; about five minutes)

RUN is a tune run of the default model; every format is made and asked with no limit set, and its mean and worst
differences in loss per answer token are written beside the thresholds of `releases/parity/thresholds.py`.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from allmend.releases.parity import thresholds
from allmend.verbs.ship import ship

FORMATS = "f16,bf16,q8_0,q6_k,q5_k_m,q5_0,q4_k_m,q4_k_s,q4_0,q3_k_m,q2_k"


def main() -> None:
    """Measure and write the result."""
    run = sys.argv[1]
    prompts = int(sys.argv[sys.argv.index("--prompts") + 1]) if "--prompts" in sys.argv else 64
    limits, on_rounded = dict(thresholds.LIMITS), thresholds.ON_ROUNDED
    none = thresholds.Limit(1e9, 1e9)
    thresholds.LIMITS.update(dict.fromkeys(limits, none))
    thresholds.ON_ROUNDED = none
    with tempfile.TemporaryDirectory(prefix="noise-") as folder:
        release = ship(run, merge=True, gguf=FORMATS, to=Path(folder) / "release", prompts=prompts)
    thresholds.LIMITS.update(limits)
    thresholds.ON_ROUNDED = on_rounded
    allowed = {artefact.name: thresholds.allowed(artefact.type, artefact.on) for artefact in release.artefacts}
    rows = [
        {
            "artefact": found.artefact,
            "consumer": found.consumer,
            "mean": round(found.loss_difference, 5),
            "worst": round(found.loss_worst, 4),
            "allowed mean": allowed[found.artefact].mean,
            "allowed worst": allowed[found.artefact].worst,
            "accuracy": [found.reference, found.value],
        }
        for found in release.agreements
    ]
    result = {
        "command": "python bench/ship/noise.py RUN",
        "unit": "natural logarithm per answer token, absolute difference from the tested model",
        "prompts": prompts,
        "rows": rows,
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "xllamacpp", "gguf")},
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
