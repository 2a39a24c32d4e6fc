"""The cutter is compiled when it is first needed, which may be in several uploads at once."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from allmend import compiling
from allmend.hub.store import gear_native


def test_several_threads_that_compile_at_once_all_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which("c++") or shutil.which("g++")
    assert real is not None
    # Those that come together end apart: each has the file of its own until then.
    slow = tmp_path / "c++"
    slow.write_text(f'#!/bin/sh\n{real} "$@" && case "$*" in *--version*) ;; *) sleep 0.$(($$ % 3)) ;; esac\n')
    slow.chmod(0o755)
    monkeypatch.setenv("CXX", str(slow))
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    together = threading.Barrier(4)

    def make(_: int) -> str:
        together.wait(60)
        flags = gear_native._FLAGS
        compiled, why = compiling.library("allmend.hub.store", "gear.cpp", flags, gear_native._typed)
        assert compiled is not None, why
        return why

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(make, range(4)))) == 1
    assert [path.suffix for path in (tmp_path / "home" / "cache" / "kernels").iterdir()] == [".so"]
