"""The tour, as a stranger runs it: its figures are computed from what the models answered."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from installed import environment

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.mark.timeout(900)
def test_the_tour_tunes_judges_serves_and_asks(tmp_path, shared_home):
    """With what `make demo` installs and no other package, and the model as it was fetched."""
    python = environment(tmp_path / "venv", "tune", "serve")
    home = shared_home(tmp_path / "home")
    (tmp_path / "home" / "converted").unlink()
    done = subprocess.run(
        [str(python), "-m", "allmend", "tour", "--budget", "60s", "--json"],
        env={**os.environ, **home, "OMP_NUM_THREADS": "2", "PYTHONPATH": ""},
        capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    verdict = result["verdict"]
    accuracy = next(measure for measure in verdict["measures"] if measure["name"] == "accuracy")
    assert verdict["held_out_rows"] >= 100
    assert 0.6 < accuracy["base"] < 0.9
    rows = verdict["held_out_rows"]
    changed = (verdict["gained"] - verdict["lost"]) / rows
    assert accuracy["difference"] == pytest.approx(changed)
    assert accuracy["low"] <= accuracy["difference"] <= accuracy["high"]
    expected = "better" if accuracy["low"] > 0 else "worse" if accuracy["high"] < 0 else "not shown to be better"
    assert verdict["words"] == expected
    assert result["exchanges"] and all(exchange["base"] and exchange["tuned"] for exchange in result["exchanges"])
    assert all(Path(path).exists() for path in result["places"].values())
    assert "not fetched again" in done.stderr
    assert result["boxed"], done.stderr
    receipt = json.loads(Path(result["places"]["receipt"]).with_suffix(".json").read_text())
    assert receipt["ended"] == "finished" and receipt["enforcement"]["level"] == "A"
    assert receipt["hosts"] == [] and not [event for event in receipt["events"] if event["verdict"] == "denied"]
