"""A short run of `bench/serve/soak.py`, which a day of the same is measured by: nothing fails that should not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "serve"


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path))
    monkeypatch.setenv("ALLMEND_DATABASE", "")
    from allmend import database
    from allmend.access import keys

    spec = importlib.util.spec_from_file_location("soak", BENCH / "soak.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "soak", module)
    spec.loader.exec_module(module)
    database.forget()
    keys.forget()
    yield module.soak
    database.forget()
    keys.forget()


@pytest.mark.parametrize("kill", [pytest.param(False, marks=pytest.mark.slow, id="crash"), pytest.param(True, id="-9")])
def test_mixed_traffic_leaves_a_ledger_equal_to_its_answers(soak: Any, kill: bool) -> None:
    # With kill -9 the engine does not crash before; else it does once, in the middle.
    found = soak(4.0 if kill else 10.0, None, 1e9 if kill else 3.0, 0.5, kill)
    assert found["alive_at_the_end"] and found["unexpected"] == []
    assert found["exit_code"] == (-9 if kill else 130)
    assert found["answers"]["told"] > 0 and found["told_and_not_in_the_ledger"] == 0
    # What was settled in the instant before its answer was out: at most one for each client. One that hangs up may do
    # so when its answer is complete already, the oftener the slower it is.
    untold = found["in_the_ledger_and_not_told"] - found["of_them_left_when_theirs_was_complete"]
    assert untold <= (7 if kill else 4)
