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


def test_ten_thousand_cells_are_all_read() -> None:
    many = planned(notebook(*(f"x{n} = {n}\n!wget https://h.example/{n}" for n in range(10_000))))
    assert many.totals["download"] == 10_000
    assert many.unread == []


def test_a_cell_of_five_megabytes_is_read_as_far_as_said() -> None:
    large = planned(notebook("!pip install first\n" + "x = 1\n" * 800_000 + "!pip install end"))
    reasons = [item.reason for item in large.unread]
    assert [effect.target for effect in large.effects] == ["pip:first"]
    assert any("longer than 2,000,000 characters" in reason for reason in reasons), reasons


@pytest.mark.parametrize("source", ["x = " + "(" * 3000 + ")" * 3000, "-" * 100_000 + "1", "a" + ".b" * 50_000 + "()"])
def test_deep_nesting_is_named_as_unread(source: str) -> None:
    deep = planned(notebook(source, "!pip install after"))
    assert [effect.target for effect in deep.effects] == ["pip:after"], "the cells after it are read all the same"
    assert {item.cell for item in deep.unread} == {0}
    assert all(item.reason for item in deep.unread)


def _visits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts expressions that are evaluated: work is bounded by visits, whatever the machine's speed."""
    from allmend.planning.evaluation.python import Python

    counted = [0]
    plain = Python.eval

    def eval_(self: Python, node: Any) -> Any:
        counted[0] += 1
        return plain(self, node)

    monkeypatch.setattr(Python, "eval", eval_)
    return counted


_LOOPS = "a = ['x'] * 9\n" + "\n".join("  " * n + f"for i{n} in a:" for n in range(9)) + "\n" + "  " * 9 + "print(i0)"


@pytest.mark.parametrize(
    ("source", "cell"),
    [(_LOOPS, 0), ("def f(): return f() + f()\nf()\n" + _LOOPS, 0), ("def g(x):\n" + "".join(" g(x)\n" for _ in range(80)) + "g(1)", None)],
)  # fmt: skip
def test_work_that_never_ends_is_cut_and_named(source: str, cell: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = _visits(monkeypatch)
    found = planned(notebook(source, "!pip install after"))
    assert counted[0] < 150_000
    assert [effect.target for effect in found.effects if effect.kind == "install"] == ["pip:after"]
    if cell is not None:
        assert [item.cell for item in found.unread if "more work" in item.reason] == [cell]


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
            found = planned(broken)
        except AllmendError as error:
            assert error.exit_code == 4 and error.message and error.where
            continue
        assert all(item.reason for item in found.unread)
        assert all(effect.reason for effect in found.effects if effect.certainty == "unknown")
        assert Plan.model_validate_json(found.to_json()) == found


_WORDS = st.sampled_from(
    ["!pip", "install", "%cd", "%%bash", "import", "os", "(", ")", "[", "{", "}", ":", "=", "\n", "\n", "", "", "'x'", '"y"', 'f"{a}"', "$A", "{b}", "|", "&&", ";", "def", "for", "in", "if", "while", "class", "lambda", "subprocess.run(", "os.system(", "exec(", "open(", "git", "clone", "https://a.example/b", "curl", "sh", "<<EOF", "EOF", "\\", "#", "?", "!", "%", "\t", "@", "-r", "-e", "..", "/", "~", "*", "**"]
)  # fmt: skip


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_WORDS, max_size=40), st.text(max_size=20))
def test_any_soup_of_words_is_read(words: list[str], text: str) -> None:
    found = planned(notebook(" ".join(words), text, "%%bash\n" + " ".join(words)))
    assert all(item.reason for item in found.unread)
    assert all(effect.reason for effect in found.effects if effect.certainty == "unknown")
    assert all(effect.line >= 1 and 0 <= effect.cell <= 2 for effect in found.effects if effect.kind != "hardware")


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
    start = time.process_time()
    found = plan(path)
    seconds = time.process_time() - start
    assert found.totals["install"] == 95
    assert seconds < 20, "processor time; bench/plan holds it to 2 s on a quiet core"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024
