"""Files as people have them: what is read as meant, and what is told where it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allmend.cli import run_command as command
from allmend.data import PLAIN, Reading, Template, check
from allmend.data.cleaning import write_clean
from allmend.errors import InputError, UsageError

Write = Callable[[Path], object]


def test_an_input_that_only_later_rows_have_is_read(tmp_path: Path) -> None:
    rows = [{"instruction": "Add.", "output": "?"}]
    rows += [{"instruction": "Add.", "input": f"{n} + {n}", "output": f"{2 * n}"} for n in range(4)]
    for name, text in (("a.jsonl", "\n".join(map(json.dumps, rows))), ("a.json", json.dumps(rows))):
        (tmp_path / name).write_text(text)
        reading = Reading(tmp_path / name)
        assert [row.prompt for row in reading] == ["Add.", *(f"Add.\n\n{n} + {n}" for n in range(4))]
        assert reading.shape is not None and reading.shape.columns["input"] == "input"
        assert any("some rows have 'input'" in note for note in reading.notes)


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALLING = {"messages": [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "weather()"}]}


@pytest.mark.parametrize("tools", [[TOOL], json.dumps([TOOL])], ids=["list", "text"])
def test_tools_beside_messages_are_read_and_kept_by_fix(tmp_path: Path, tools: Any) -> None:
    path, target = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ({**CALLING, "tools": tools}, CALLING)))
    reading = Reading(path)
    assert [row.tools for row in reading] == [(TOOL,), None] and reading.notes == []
    assert write_clean(path, target) == 2
    assert [row.tools for row in Reading(target)] == [(TOOL,), None]


@pytest.mark.parametrize("tools", ["no JSON", "7", {"a": 1}, ["name"]], ids=str)
def test_tools_that_are_none_are_told(tmp_path: Path, tools: Any) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({**CALLING, "tools": tools}))
    with pytest.raises(InputError, match="the tools are"):
        list(Reading(tmp_path / "a.jsonl"))


def test_a_template_that_writes_no_tools_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join([json.dumps({**CALLING, "tools": [TOOL]})] * 3))
    found = {problem.id: problem for problem in check(tmp_path / "a.jsonl", template=PLAIN).problems}
    assert found["undescribed-tools"].count == 3 and "allmend-plain/1" in found["undescribed-tools"].message
    unknown = check(tmp_path / "a.jsonl")
    assert any("writes the tools" in each.what for each in unknown.unchecked)
    writes = Template("own", "{{ tools | tojson if tools }}" + PLAIN.text)
    assert "undescribed-tools" not in {each.id for each in check(tmp_path / "a.jsonl", template=writes).problems}


def test_tests_of_code_stay_when_rows_are_cleaned_and_fit_no_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "add", "completion": "def f(): ...", "tests": "assert f() is None"}))
    write_clean(path, tmp_path / "b.jsonl")
    assert [row.tests for row in Reading(tmp_path / "b.jsonl")] == ["assert f() is None"]
    with pytest.raises(UsageError, match="tests beside a prompt do not fit into a CSV"):
        write_clean(path, tmp_path / "b.csv")
    assert not (tmp_path / "b.csv").exists()


def lines(*rows: dict[str, Any]) -> Write:
    return lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_prompt_and_completion_that_are_messages_make_one_conversation(tmp_path: Path) -> None:
    ask, say = [{"role": "user", "content": "q"}], [{"role": "assistant", "content": "a"}]
    lines({"prompt": ask, "completion": say})(tmp_path / "rows.jsonl")
    reading = Reading(tmp_path / "rows.jsonl")
    row = next(iter(reading))
    assert row.messages == (*ask, *say) and reading.shape is not None
    assert reading.shape.columns == {"prompt": "prompt", "completion": "completion"}


def test_roles_of_other_names_are_understood(tmp_path: Path) -> None:
    talk = [{"role": "User", "content": "q"}, {"role": "bot", "content": "a"}]
    lines({"messages": talk})(tmp_path / "rows.jsonl")
    row = next(iter(Reading(tmp_path / "rows.jsonl")))
    assert row.messages is not None and [message["role"] for message in row.messages] == ["user", "assistant"]


def test_columns_that_nothing_is_learned_from_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": f"x{n}", "context": f"c {n}", "question": f"q {n}", "answer": f"a {n}", "score": 1} for n in range(30)
    ]
    lines(*rows)(tmp_path / "rows.jsonl")
    assert "columns that are not used: 'context'" in check(tmp_path / "rows.jsonl").notes
    assert command(["data", "check", str(tmp_path / "rows.jsonl")]) == 0
    assert "columns that are not used: 'context'" in capsys.readouterr().out


PAIR = {"prompt": "q", "completion": "a"}


@pytest.mark.parametrize(
    ("name", "write", "said", "hint"),
    [
        ("a.jsonl", lines({"prompt": "q", "chosen": "a", "rejected": "b"}), "one answer a row", "-column chosen"),
        ("a.jsonl", lines({"chosen": [{"role": "user", "content": "q"}], "rejected": []}), "one answer", "'messages'"),
        ("a.jsonl", lambda path: path.write_text(json.dumps(PAIR, indent=1)), "spread over several lines", "jq -c ."),
        ("a.json", lambda path: path.write_text(json.dumps({"rows": [PAIR]}, indent=1)), "not a list", "'.rows[]'"),
        ("a.json", lambda path: path.write_text(json.dumps({"v": 1, "rows": [PAIR]})), "which column", "'.rows[]'"),
        ("a.json", lambda path: path.write_text(json.dumps({"q": ["a"], "b": [1]}, indent=1)), "not a list", "columns"),
        ("a.csv", lambda path: path.write_bytes("prompt,completion\ncafé,ü\n".encode("cp1252")), "a.csv:2", "iconv"),
        ("a.jsonl", lines({"prompt": "q"}), "one column only", "Add the other"),
    ],
    ids=["pairs", "pairs of talks", "pretty", "wrapped", "wrapped in a line", "columns", "latin", "alone"],
)  # fmt: skip
def test_what_cannot_be_read_says_what_would(tmp_path: Path, name: str, write: Write, said: str, hint: str) -> None:
    write(tmp_path / name)
    with pytest.raises(InputError, match=said) as caught:
        check(tmp_path / name)
    assert hint in (caught.value.hint or "")


def test_a_list_in_a_file_of_lines_is_read_as_the_list_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps([PAIR, PAIR]))
    assert len(list(Reading(tmp_path / "a.jsonl"))) == 2


def test_a_copy_without_rows_is_not_written_and_tests_of_code_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines({"prompt": "q", "completion": ["a"]})(tmp_path / "bad.jsonl")
    assert command(["data", "check", str(tmp_path / "bad.jsonl"), "--fix", str(tmp_path / "new.jsonl")]) == 4
    assert not (tmp_path / "new.jsonl").exists() and "no cleaned copy" in capsys.readouterr().err
    rows = [{"prompt": f"q {n}", "completion": f"a {n}", "tests": f"assert {n}"} for n in range(30)]
    lines(*rows)(tmp_path / "code.jsonl")
    assert command(["data", "check", str(tmp_path / "code.jsonl"), "--fix", str(tmp_path / "clean.jsonl")]) == 0
    assert [json.loads(line) for line in (tmp_path / "clean.jsonl").read_text().splitlines()] == rows
