from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from allmend.data import Reading, Row, labels_of, load, read_rows
from allmend.data.lines import LONGEST_LINE
from allmend.errors import AllmendError, InputError, NotFound, UsageError


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pairs(source, **options):
    return [(row.prompt, row.completion) for row in Reading(source, **options)]


def test_json_lines_with_prompts_and_completions(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"prompt": "a", "completion": "b"}\n\n{"prompt": "c", "completion": "d"}\n')
    assert list(read_rows(path)) == [
        Row("a", "b", place=f"{path}:1"),
        Row("c", "d", place=f"{path}:3"),
    ]


def test_conversations_keep_their_messages_and_show_the_last_answer(tmp_path):
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4"},
    ]
    [row] = read_rows(write(tmp_path, "a.jsonl", json.dumps({"messages": messages})))
    assert row.kind == "messages"
    assert list(row.messages) == messages
    assert row.completion == "4"
    assert row.prompt == "system: Be short.\n\nuser: 2 + 2?"


def test_conversations_of_from_and_value_are_read_as_roles(tmp_path):
    talk = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    [row] = read_rows(write(tmp_path, "a.jsonl", json.dumps(talk)))
    assert [message["role"] for message in row.messages] == ["user", "assistant"]


def test_an_answer_that_only_calls_a_tool_is_kept(tmp_path):
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "now", "arguments": {}}}]}
    talk = {"messages": [{"role": "user", "content": "Time?"}, call]}
    [row] = read_rows(write(tmp_path, "a.jsonl", json.dumps(talk)))
    assert row.messages[-1]["tool_calls"][0]["function"]["name"] == "now"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"instruction": "Sum", "input": "1, 2", "output": "3"}, ("Sum\n\n1, 2", "3")),
        ({"instruction": "Sum", "input": "", "output": "3"}, ("Sum", "3")),
        ({"Question": "Why?", "Answer": "So."}, ("Why?", "So.")),
        ({"text": "fine", "label": 1}, ("fine", "1")),
        ({"text": "fine", "label": True}, ("fine", "true")),
        ({"prompt": "p", "completion": "c", "text": "t", "label": "l"}, ("p", "c")),
    ],
)
def test_well_known_names_are_understood_and_said(tmp_path, fields, expected):
    reading = Reading(write(tmp_path, "a.jsonl", json.dumps(fields)))
    [row] = reading
    assert (row.prompt, row.completion) == expected
    assert any("as the prompt" in note for note in reading.notes) == ("prompt" not in fields)


def test_names_that_fit_in_two_ways_are_not_guessed(tmp_path):
    path = write(tmp_path, "a.csv", "text,label,summary\na,b,c\n")
    with pytest.raises(InputError, match="more than one way") as caught:
        list(read_rows(path))
    assert "--completion-column" in caught.value.hint
    assert pairs(path, completion_column="summary") == [("a", "c")]


def test_a_missing_column_names_the_nearest(tmp_path):
    path = write(tmp_path, "a.csv", "review,sentiment\na,b\n")
    with pytest.raises(UsageError) as caught:
        list(read_rows(path, prompt_column="reviw"))
    assert "'review'" in caught.value.hint
    assert caught.value.where == "--prompt-column"


def test_unknown_columns_are_listed(tmp_path):
    with pytest.raises(InputError, match="'x', 'y'"):
        list(read_rows(write(tmp_path, "a.csv", "x,y\n1,2\n")))


def test_csv_with_mark_quotes_line_ends_and_other_delimiters(tmp_path):
    path = write(tmp_path, "a.csv", b'\xef\xbb\xbftext;label\r\n"good; ""very"" good\nreally";pos\r\n\r\nbad;neg\r\n')
    reading = Reading(path)
    rows = list(reading)
    assert [(row.prompt, row.completion) for row in rows] == [('good; "very" good\nreally', "pos"), ("bad", "neg")]
    assert [row.place for row in rows] == [f"{path}:2", f"{path}:5"]
    assert any("';'" in note for note in reading.notes)


def test_tsv_written_without_quoting_keeps_its_quotes(tmp_path):
    path = write(tmp_path, "a.tsv", 'text\tlabel\n"so" they said\tpos\n"oh, no\tneg\n')
    assert pairs(path) == [('"so" they said', "pos"), ('"oh, no', "neg")]
    assert pairs(write(tmp_path, "b.tsv", 'text\tlabel\n"a\tb"\tpos\nc\tneg\n')) == [("a\tb", "pos"), ("c", "neg")]


def test_parquet_uses_the_class_names_in_its_metadata(tmp_path):
    table = pyarrow.table({"text": ["a", "b"], "label": [0, 1]})
    features = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["neg", "pos"]}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert pairs(tmp_path / "a.parquet") == [("a", "neg"), ("b", "pos")]


def test_a_folder_of_texts_in_the_order_of_their_names(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path, "b.txt", "second")
    write(tmp_path, "a.md", "first")
    write(tmp_path / "in", "c.txt", "third")
    write(tmp_path, "picture.png", b"\x89PNG")
    (tmp_path / "loop").symlink_to(tmp_path)
    reading = Reading(tmp_path)
    assert [row.text for row in reading] == ["first", "second", "third"]
    assert any("1 files" in note for note in reading.notes)
    digest = reading.sha256()
    write(tmp_path, "b.txt", "changed")
    assert Reading(tmp_path).sha256() != digest


def test_a_text_file_is_a_row_a_paragraph(tmp_path):
    path = write(tmp_path, "a.txt", "one\nstill one\n\n\ntwo\n")
    assert [(row.text, row.place) for row in read_rows(path)] == [("one\nstill one", f"{path}:1"), ("two", f"{path}:5")]


@pytest.mark.parametrize("content", ['{"prompt": "a", "completion": "b"}\n', "text,label\na,b\n"])
def test_standard_input_is_told_apart(content):
    script = (
        "from allmend.data import Reading\nr = Reading('-')\nrow, = r\n"
        "print(row.prompt, row.completion, row.place, r.sha256())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=content, capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    import hashlib

    prompt, completion, place, digest = done.stdout.split()
    assert (prompt, completion) == ("a", "b")
    assert place.startswith("stdin:")
    assert digest == hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "content", "words", "line"),
    [
        ("a.jsonl", b"", "empty", None),
        ("a.csv", b"", "empty", None),
        ("a.csv", b"text,label\n", "no rows", None),
        ("a.parquet", b"", "empty", None),
        ("a.parquet", b"nonsense", "Parquet", None),
        ("a.jsonl", b"\n\n", "no rows", None),
        ("a.jsonl", b'{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n', "no field 'completion'", 2),
        ("a.jsonl", b'{"prompt": "a", "completion": null}\n', "no value", 1),
        ("a.jsonl", b'{"prompt": "a", "completion": ["b"]}\n', "a list, not text", 1),
        ("a.jsonl", b'{"prompt": "a", "completion": "b"}\n{"prompt": \n', "not JSON", 2),
        ("a.jsonl", b'{"prompt": "\xe9", "completion": "b"}\n', "0xe9", 1),
        ("a.jsonl", b'{"prompt": "a", "completion": "b"}\nx\0\n', "NUL", None),
        ("a.jsonl", b'{"prompt": "\\u0000", "completion": "b"}\n', "NUL", 1),
        ("a.jsonl", b'{"prompt": "\\ud83d", "completion": "b"}\n', "surrogate", 1),
        ("a.jsonl", b'{"prompt": "a", "completion": " "}\n', "completion is empty", 1),
        ("a.jsonl", b'{"prompt": ' + b"[" * 100_000, "JSON", 1),
        ("a.jsonl", b'{"prompt": ' + b"9" * 10_000 + b', "completion": "b"}', "JSON", 1),
        ("a.jsonl", b"[1, 2]\n", "not a JSON object", 1),
        ("a.jsonl", b'{"messages": []}', "no messages", 1),
        ("a.jsonl", b'{"messages": [{"role": "boss", "content": "x"}]}', "'boss'", 1),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": "x"}]}', "nothing to learn", 1),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": 3}]}', "message 1", 1),
        ("a.json", b'[{"prompt": "a", "completion": "b"}, 3]', "not a JSON object", 2),
        ("a.json", b"[1, 2", "not JSON", 1),
        ("a.csv", b"text,label\na,b,c\n", "3 fields", 2),
        ("a.csv", b"text,label\na\n", "1 fields", 2),
        ("a.csv", b'text,label\n"a,b\nc,d\n', "never closed", 2),
        ("a.csv", b'text,label\n"a"b,c\n', "quote", 2),
        ("a.csv", b"text,label\n\xff\xff,c\n", "0xff", 2),
        ("a.csv", b"text,text,label\na,b,c\n", "two columns", 1),
        ("a.csv", "text,label\na,b\n".encode("utf-16"), "UTF-16", None),
        ("a.csv", b"\x1f\x8b\x08\x00", "gzip", None),
        ("a.csv", b"PK\x03\x04", "spreadsheet", None),
        ("a.csv", b"text,label\n" + b"x\0y,z\n", "NUL", None),
        ("a.txt", b"\n\n", "no rows", None),
    ],
)
def test_bad_files_are_told_by_place_and_cause(tmp_path, name, content, words, line):
    path = write(tmp_path, name, content)
    with pytest.raises(InputError) as caught:
        list(read_rows(path))
    assert words in caught.value.message
    assert caught.value.where == (f"{path}:{line}" if line else str(path))


def test_a_line_without_end_is_not_held_in_memory(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"prompt": "')
        for _ in range(100):
            stream.write(b"x" * (1 << 20))
        stream.write(b'", "completion": "y"}\n{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(InputError, match="longer than 32 MiB"):
        list(read_rows(path))
    reading = Reading(path, skip_bad=True)
    assert [row.place for row in reading] == [f"{path}:2"]
    assert reading.skipped == 1
    assert LONGEST_LINE == 32 << 20


def test_skip_bad_counts_and_keeps_the_first_reasons(tmp_path):
    good = '{"prompt": "a", "completion": "b"}\n'
    path = write(tmp_path, "a.jsonl", (good + "bad\n") * 9)
    reading = Reading(path, skip_bad=True)
    assert len(list(reading)) == 9
    assert reading.skipped == 9
    assert [skipped.place for skipped in reading.skipped_rows] == [f"{path}:{line}" for line in (2, 4, 6, 8, 10)]
    assert len(list(reading)) == 9, "a reading can be read again"
    assert reading.skipped == 9


def test_a_bad_row_of_a_table_spoils_no_other(tmp_path):
    path = write(tmp_path, "a.csv", b'text,label\na,b\n\xff,x\nc,d\n"multi\nline \xff",y\ne,f\n')
    reading = Reading(path, skip_bad=True)
    assert [(row.prompt, row.place) for row in reading] == [("a", f"{path}:2"), ("c", f"{path}:4"), ("e", f"{path}:7")]
    assert reading.skipped == 2


def test_wrong_names_of_files(tmp_path):
    write(tmp_path, "reviews.csv", "text,label\na,b\n")
    with pytest.raises(NotFound) as caught:
        Reading(tmp_path / "review.csv")
    assert "reviews.csv" in caught.value.hint
    with pytest.raises(UsageError, match=r"'\.docx'"):
        list(read_rows(write(tmp_path, "a.docx", "x")))


def test_load_refuses_a_file_of_which_nothing_is_usable(tmp_path):
    with pytest.raises(InputError, match="no row of it can be used") as caught:
        load(write(tmp_path, "a.csv", "text,label\na,\nb,\n"), skip_bad=True)
    assert "a.csv:2" in caught.value.hint


def test_labels_are_few_short_and_repeat():
    assert labels_of([Row("a", "pos"), Row("b", "neg")] * 4) == ["neg", "pos"]
    assert labels_of([Row("a", "pos"), Row("b", "neg")]) is None
    assert labels_of([Row("a", f"answer {n}") for n in range(50)]) is None
    assert labels_of([Row("a", "a long answer " * 10)] * 9) is None
    assert labels_of([Row(text="a")] * 9) is None


texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=40)
said = texts.filter(lambda text: text.strip())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(said, said), min_size=1, max_size=8))
def test_what_was_written_is_read_back_in_every_format(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("formats")
    lines = "".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows)
    assert pairs(write(folder, "a.jsonl", lines)) == rows
    table = io.StringIO()
    csv.writer(table).writerows([("prompt", "completion"), *rows])
    assert pairs(write(folder, "a.csv", table.getvalue())) == rows
    assert pairs(write(folder, "a.json", json.dumps([{"prompt": p, "completion": c} for p, c in rows]))) == rows
    columns = {"prompt": [p for p, _ in rows], "completion": [c for _, c in rows]}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "a.parquet")
    assert pairs(folder / "a.parquet") == rows


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["a.jsonl", "a.csv", "a.tsv", "a.json", "a.txt", "a.parquet"]),
    st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from([b"text,label\n", b"text\tlabel\n", b'{"text":', b'"a"', b"}", b"\n", b'"', b",", b"\xff",
                             b"\r", b"[", b"]", b"\xef\xbb\xbf", b"a", b"\t", b"PAR1",
                             b'{"messages":[{"role":"user"}]}']),
            max_size=30,
        ).map(b"".join),
    ),
    st.booleans(),
)  # fmt: skip
@example("a.csv", b'text,label\r"a', True)
def test_any_bytes_give_rows_or_an_error_for_a_person(tmp_path_factory, name, content, skip_bad):
    path = write(tmp_path_factory.mktemp("fuzz"), name, content)
    try:
        rows = list(Reading(path, skip_bad=skip_bad))
    except AllmendError as error:
        assert str(path) in str(error) or "--" in str(error)
    else:
        assert all(not row.is_empty and row.place for row in rows)
