from __future__ import annotations

import json

import pytest

from allmend import runs
from allmend.cli import run_command as command


@pytest.fixture
def two():
    names = []
    for rate in (0.1, 0.2):
        with runs.record("tune", settings={"rate": rate}, subject="[odd].csv") as one:
            one.metric(3, loss=rate)
            one.choice("dtype", "float32", "[no] markup")
        names.append(one.id)
    return names


def test_the_bare_word_lists(two, capsys):
    assert command(["runs"]) == 0
    shown = capsys.readouterr().out
    assert shown.index(two[1]) < shown.index(two[0])
    assert "done" in shown


def test_show_tells_all_and_keeps_brackets(two, capsys):
    assert command(["runs", "show", two[0]]) == 0
    shown = capsys.readouterr().out
    for words in ("[odd].csv", "rate", "0.1", "[no] markup", "at step 3", "float32"):
        assert words in shown


def test_show_draws_the_course_of_a_figure_also_while_it_runs(capsys):
    with runs.record("tune", settings={}, subject="a.csv") as one:
        for step, loss in enumerate((4.0, 2.0, 1.0)):
            one.metric(step, loss=loss)
        one.flush()
        assert command(["runs", "show", one.id]) == 0
        shown = capsys.readouterr().out
    assert "running" in shown and "at step 2, 1 to 4, 3 points" in shown and "█▃▁" in shown


def test_compare_shows_both_values(two, capsys):
    assert command(["runs", "compare", two[0], "last"]) == 0
    shown = capsys.readouterr().out
    assert "0.1" in shown
    assert "0.2" in shown
    assert "dtype" not in shown


@pytest.mark.parametrize(
    ("words", "schema"),
    [(["show", "last"], "allmend.run/1"), (["compare", "last", "last"], "allmend.run-comparison/1")],
)
def test_json_is_the_noun(two, capsys, words, schema):
    assert command(["runs", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == schema


def test_the_list_as_json(two, capsys):
    assert command(["runs", "--json", "--verb", "tune"]) == 0
    assert [run["id"] for run in json.loads(capsys.readouterr().out)] == two[::-1]


def test_no_runs_and_no_such_run(capsys):
    assert command(["runs"]) == 0
    assert "No runs yet" in capsys.readouterr().err
    assert command(["runs", "show", "tune-1"]) == 5
