"""Threads that wait: spinning or sleeping. Alone, and beside another program of the same kind.

    python bench/waiting.py    (two minutes; result in bench/waiting.json)

Both ways take turns, medians of several runs; a run is a chain of small bf16 matmuls and elementwise work, as a
layer of a small model is.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

WORK = """
import time, torch
a, b = torch.randn(640, 640).bfloat16(), torch.randn(2048, 640).bfloat16()
end, count = time.time() + 3, 0
while time.time() < end:
    for _ in range(20):
        torch.nn.functional.gelu(torch.nn.functional.linear(a, b))
    count += 20
print(count / 3, torch.__version__)
"""


def rate(policy: str | None, beside: int) -> tuple[float, str]:
    """Layers a second of one program, with `beside` others of the same kind running."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if policy:
        environment["OMP_WAIT_POLICY"] = policy
    programs = [
        subprocess.Popen([sys.executable, "-c", WORK], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(1 + beside)
    ]
    outputs = [program.communicate()[0].split() for program in programs]
    return float(outputs[0][0]), outputs[0][1]


def main() -> None:
    """Measure and write the result."""
    readings: dict[str, list[float]] = {}
    version = ""
    for _ in range(3):
        for beside in (0, 1):
            for name, policy in (("spinning", None), ("sleeping", "PASSIVE")):
                value, version = rate(policy, beside)
                readings.setdefault(f"{name}, {beside} beside", []).append(value)
    medians = {name: round(statistics.median(values), 1) for name, values in readings.items()}
    result = {
        "command": "python bench/waiting.py",
        "unit": "layers a second, median of 3",
        "medians": medians,
        "sleeping / spinning alone": round(medians["sleeping, 0 beside"] / medians["spinning, 0 beside"], 2),
        "sleeping / spinning beside another": round(medians["sleeping, 1 beside"] / medians["spinning, 1 beside"], 2),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "torch": version,
        "load_before": os.getloadavg()[0],
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
