"""Whatever comes from outside: clear words, bounded time, never a traceback."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labelled_set import CASES

from allmend.errors import AllmendError, InputError, NotFound
from allmend.notebooks import read_bytes
from allmend.nouns.plan import Plan
from allmend.planning import plan_notebook
from allmend.verbs.plan import plan


def notebook(*sources: str, **metadata: Any) -> bytes:
    cells = [{"cell_type": "code", "source": source, "metadata": {}, "outputs": []} for source in sources]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}).encode()


def planned(data: bytes, name: str = "a.ipynb") -> Plan:
    return plan_notebook(read_bytes(data, name=name), path=name)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"<!doctype html><html></html>", "not JSON"),
        (b'{"cells": [', "not JSON"),
        (b'{"a": 1}', "neither"),
        (b"[1, 2]", "not a notebook"),
        (b'{"cells":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested"),
    ],
)
def test_what_is_no_notebook_is_said_in_words(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_bytes(data, name="a.ipynb")


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        plan(tmp_path / "nothing.ipynb")


@pytest.mark.parametrize(("language", "shown"), [("R", "r"), ("julia", "julia"), ("scala", "scala")])
def test_another_language_is_named_and_its_shell_lines_are_still_read(language: str, shown: str) -> None:
    data = notebook("x <- 1\n!pip install seen", language_info={"name": language}, accelerator="GPU")
    found = planned(data)
    assert found.subject.language == shown
    assert any(shown in item.reason for item in found.unread)
    assert {("install", "pip:seen"), ("hardware", "gpu")} <= {(e.kind, e.target) for e in found.effects}


def test_cells_that_are_no_cells_are_listed() -> None:
    data = b'{"nbformat": 4, "metadata": {}, "cells": [1, {"cell_type": "code", "source": 5}, {"cell_type": "weird", "source": "x"}]}'
    assert [item.cell for item in planned(data).unread] == [0, 1, 2]


def test_version_3_with_worksheets() -> None:
    data = json.dumps({"nbformat": 3, "metadata": {}, "worksheets": [{"cells": [
        {"cell_type": "code", "input": ["!pip install old\n"], "language": "python", "outputs": []}]}]}).encode()  # fmt: skip
    assert [(e.kind, e.target) for e in planned(data).effects] == [("install", "pip:old")]


def test_surrogates_and_null_bytes_do_no_harm() -> None:
    data = notebook("x = '\\ud800'\n!pip install a\0b").replace(b"a\\u0000b", b"a\\u0000b\\ud83d")
    assert planned(data).to_json().encode("utf-8")


def test_ten_thousand_cells_and_a_cell_of_five_megabytes_are_bounded() -> None:
    start = time.perf_counter()
    many = planned(notebook(*(f"x{n} = {n}\n!wget https://h.example/{n}" for n in range(10_000))))
    large = planned(notebook("x = 1\n" * 800_000 + "!pip install end"))
    deep = planned(notebook("x = " + "(" * 3000 + ")" * 3000, "y = " + "[" * 150 + "]" * 150, "-" * 100_000 + "1"))
    assert time.perf_counter() - start < 60
    assert many.totals["download"] == 10_000
    assert large.unread and deep.unread


def test_work_that_never_ends_is_cut_and_named() -> None:
    source = "a = ['x'] * 9\n" + "".join(f"for i{n} in a:\n{' ' * (n + 1)}" for n in range(0)) + "\n".join(
        "  " * n + f"for i{n} in a:" for n in range(9)) + "\n" + "  " * 9 + "print(i0)"  # fmt: skip
    start = time.perf_counter()
    found = planned(notebook(source, "def f(): return f() + f()\nf()"))
    assert time.perf_counter() - start < 20
    assert any("more work" in item.reason for item in found.unread)


def test_the_same_bytes_give_the_same_plan() -> None:
    for case in CASES[:12]:
        assert planned(case.notebook()).to_json() == planned(case.notebook()).to_json()


def test_every_plan_survives_its_own_json() -> None:
    for case in CASES:
        found = planned(case.notebook())
        assert Plan.model_validate_json(found.to_json()) == found


_BASES = [case.notebook() for case in CASES]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(_BASES), st.integers(0, 4000), st.binary(max_size=12), st.integers(0, 60))
def test_mutated_and_truncated_notebooks_never_crash(base: bytes, place: int, put: bytes, gone: int) -> None:
    place %= len(base)
    data = base[:place] + put + base[place + gone :]
    for broken in (data, base[:place]):
        try:
            planned(broken)
        except AllmendError:
            pass


_WORDS = st.sampled_from(
    ["!pip", "install", "%cd", "%%bash", "import", "os", "(", ")", "[", "{", "}", ":", "=", "\n", "\n", "", "", "'x'", '"y"', 'f"{a}"', "$A", "{b}", "|", "&&", ";", "def", "for", "in", "if", "while", "class", "lambda", "subprocess.run(", "os.system(", "exec(", "open(", "git", "clone", "https://a.example/b", "curl", "sh", "<<EOF", "EOF", "\\", "#", "?", "!", "%", "\t", "@", "-r", "-e", "..", "/", "~", "*", "**"]
)  # fmt: skip


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_WORDS, max_size=40), st.text(max_size=20))
def test_any_soup_of_words_is_read(words: list[str], text: str) -> None:
    planned(notebook(" ".join(words), text, "%%bash\n" + " ".join(words)))


def test_a_hundred_megabytes_of_outputs_plan_quickly(tmp_path: Path) -> None:
    import resource

    picture = "iVBORw0KGgo" * 100_000
    output = '"outputs":[{"output_type":"display_data","data":{"image/png":"' + picture + '"}}]'
    start_of = '{"cell_type":"code","metadata":{},"source":["!pip install a'
    cells = ",".join(start_of + str(n) + '"],' + output + "}" for n in range(95))
    path = tmp_path / "large.ipynb"
    path.write_text('{"nbformat":4,"metadata":{},"cells":[' + cells + "]}")
    assert path.stat().st_size > 100_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    found = plan(path)
    seconds = time.perf_counter() - start
    assert found.totals["install"] == 95
    assert seconds < 8, "2 s on a quiet core (bench/plan); a busy test machine gets some room"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024
