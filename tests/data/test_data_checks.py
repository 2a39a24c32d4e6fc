from __future__ import annotations

import json
import random
import subprocess
import sys
import tracemalloc

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import tiny
from allmend.cli import run_command as command
from allmend.data import Row, check
from allmend.data.lengths import TokenLengths
from allmend.data.sensitive import personal_in
from allmend.data.templates import PLAIN, Template
from allmend.errors import InputError
from allmend.redaction import secrets_in
from allmend.verbs.data_check import data_check

WORDS = [f"word{number}" for number in range(2000)]
KEY = "hf_" + "a1b2c3d4e5f6g7h8i9j0k1l2"


def rows(count, seed=0, labels=("pos", "neg")):
    chance = random.Random(seed)
    return [(" ".join(chance.choices(WORDS, k=15)), labels[number % len(labels)]) for number in range(count)]


def table(folder, pairs, name="a.csv"):
    path = folder / name
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in pairs))
    return path


def found(report):
    return {problem.id: problem.count for problem in report.problems}


def test_clean_rows_have_no_problems_and_what_was_not_checked_is_said(tmp_path):
    report = check(table(tmp_path, rows(100)))
    assert report.problems == []
    assert report.labels == {"neg": 50, "pos": 50}
    assert {unchecked.what for unchecked in report.unchecked} == {
        "leakage into other files",
        "tokens, context, special tokens",
    }
    assert (report.lengths[0].of, report.lengths[0].unit) == ("prompt", "characters")
    assert report.previews[0].learned.startswith(" pos")
    assert type(report).from_json(report.to_json()) == report


def test_repeats_and_conflicts(tmp_path):
    base = rows(60)
    near = base[5][0].split()
    near[3] = "other"
    more = [(base[0][0].upper(), "pos"), (base[1][0], "pos"), (" ".join(near), "pos"), (base[0][0], "pos")]
    path = table(tmp_path, base + more)
    report = check(path)
    assert found(report) == {"duplicates": 2, "conflicting-labels": 1, "near-duplicates": 1}
    assert report.problem("duplicates").rows == [f"{path}:62", f"{path}:65"]
    assert report.problem("conflicting-labels").rows == [f"{path}:63"]
    assert report.problem("near-duplicates").rows == [f"{path}:64"]


def test_prompts_that_differ_in_one_sign_are_no_duplicates(tmp_path):
    path = tmp_path / "a.jsonl"
    answers = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
    sums = [
        (f"{a} {sign} {b}", f"{answer(a, b)}, from {a} and {b}")
        for a in range(5, 11)
        for b in range(1, 5)
        for sign, answer in answers.items()
    ]
    path.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in sums))
    assert found(check(path)) == {}


@pytest.mark.parametrize(
    ("pairs", "problem", "severity"),
    [
        ([(text, "pos") for text, _ in rows(40)], "one-class", "blocking"),
        (rows(2), "too-few-rows", "blocking"),
        (rows(12), "too-few-rows", "warning"),
        (rows(96, labels=["pos"]) + rows(4, 1, ["neg"]), "class-balance", "warning"),
        (rows(96, labels=["pos", "neg"]) + rows(4, 1, ["odd"]), "rare-classes", "warning"),
        (rows(80, labels=["pos", "neg", "Pos ", "neg"]), "label-variants", "warning"),
        ([*rows(40), ("", "pos"), (" ", "neg")], "empty-rows", "blocking"),
        ([*rows(40), ("a", "b,c")], "unreadable-rows", "blocking"),
        ([(f"{text} {KEY}", label) for text, label in rows(40)], "secrets", "warning"),
        ([(f"{text} jo@firm.ch", label) for text, label in rows(40)], "personal-data", "warning"),
        ([(f"{text} CafÃ©", label) for text, label in rows(40)], "damaged-text", "note"),
    ],
)
def test_each_problem_is_found(tmp_path, pairs, problem, severity):
    report = check(table(tmp_path, pairs))
    assert report.problem(problem).severity == severity
    assert bool(report.blocking) == (severity == "blocking" or bool(report.blocking))


def test_leakage_between_two_files(tmp_path):
    base = rows(60)
    near = base[7][0].split()
    near[0] = "other"
    held = table(tmp_path, [(base[3][0] + "!", "pos"), (" ".join(near), "neg"), *rows(20, 9)], "held.csv")
    path = table(tmp_path, base)
    report = check(path, held_out=held)
    assert report.problem("leakage").rows == [f"{path}:5"]
    assert report.problem("near-leakage").rows == [f"{path}:9"]
    assert "leakage" not in {unchecked.what for unchecked in report.unchecked}


def test_secrets_are_never_shown(tmp_path, capsys):
    path = table(tmp_path, [(f"mail bob@firm.ch {KEY} {text}", label) for text, label in rows(30)])
    report = check(path)
    assert KEY not in report.to_json()
    assert report.problem("secrets").count == 30
    command(["data", "check", str(path)])
    command(["data", "check", str(path), "--json"])
    shown = capsys.readouterr()
    assert KEY not in shown.out + shown.err


def test_tokens_are_counted_with_a_tokenizer(tmp_path, with_bos):
    pairs = [*rows(30), ("x" * 300, "pos"), ("a <eos> b", "neg")]
    report = check(table(tmp_path, pairs), tokenizer=with_bos, context=200)
    assert report.problem("longer-than-context").count == 1
    assert report.problem("special-tokens").count == 1
    assert [size.most for size in report.lengths if size.unit == "tokens" and size.of == "completion"] == [5]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"q{n}", "completion": "y" * 50 * n}) + "\n" for n in range(1, 31)))
    assert check(path, tokenizer=with_bos, context=1000).problem("answer-too-long").severity == "blocking"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to jane.doe@company.co.uk", ["mail addresses"]),
        ("write to me@example.com", []),
        ("@handle and 5 @ 3 euros", []),
        ("call +41 44 668 18 00 now", ["telephone numbers"]),
        ("2 + 3000000 = 3000002", []),
        ("4111 1111 1111 1111", ["card numbers"]),
        ("4111 1111 1111 1112", []),
        ("order 12345678901234", []),
        ("CH93 0076 2011 6238 5295 7", ["bank accounts"]),
        ("CH93 0076 2011 6238 5295 8", []),
    ],
)
def test_personal_data_with_a_fixed_form(text, kinds):
    assert personal_in(text) == kinds


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (f"export T={KEY}", ["hub token"]),
        ("-----BEGIN RSA PRIVATE KEY-----", ["private key"]),
        ("ghp_" + "a" * 36, ["code host token"]),
        ("AKIA" + "ABCDEFGHIJKLMNOP", ["cloud key"]),
        ("https://me:pass@host/", ["password in an address"]),
        ("Authorization: Bearer abcdefghijklmnopqrst", ["bearer header"]),
        ("task-oriented risk-free https://host/a@b", []),
        ("the bearer of good news", []),
    ],
)
def test_secrets_by_their_form(text, kinds):
    assert secrets_in(text) == kinds


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_fix_writes_a_copy_without_repeats_empty_and_broken_rows(tmp_path, ending):
    base = rows(40)
    path = table(tmp_path, [*base, base[0], ("", "pos"), ("a", "b,c")])
    target = tmp_path / f"clean.{ending}"
    report = data_check(path, fix=target)
    assert (report.fixed, report.fixed_rows) == (str(target), 40)
    again = check(target)
    assert again.problems == []
    assert again.rows == 40
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.csv", target.name]


def test_the_command_exits_with_4_when_tuning_would_stop(tmp_path, capsys):
    assert command(["data", "check", str(table(tmp_path, rows(40)))]) == 0
    assert "Nothing was found by the checks that ran" in capsys.readouterr().out
    bad = table(tmp_path, [(text, "pos") for text, _ in rows(40)], "bad.csv")
    assert command(["data", "check", str(bad)]) == 4
    assert "stops tuning" in capsys.readouterr().out
    assert command(["data", "check", str(bad), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["schema"] == "allmend.data-report/1"


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["nothing.csv"], 5, "no such file"),
        (["a.csv", "--fix", "a.csv"], 2, "not written over"),
        (["a.csv", "--fix", "b.docx"], 2, ".jsonl or .csv"),
        (["a.csv", "--fix", "no/where/b.csv"], 2, "no such folder"),
        (["a.csv", "--prompt-column", "txt"], 2, "'text'"),
        (["-", "--fix", "b.csv"], 2, "pipe"),
        (["a.csv", "--promt-column", "text"], 2, "--prompt-column"),
        (["--promt-column", "a.csv"], 2, "--prompt-column"),
    ],
)
def test_wrong_commands_are_told(tmp_path, monkeypatch, capsys, flags, code, words):
    monkeypatch.chdir(tmp_path)
    table(tmp_path, rows(40))
    assert command(["data", "check", *flags]) == code
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_stream_keeps_counts_and_the_first_places_only(tmp_path):
    """Long rows cost no more than short ones, and every problem is counted to the end of the file."""
    path = tmp_path / "a.jsonl"
    base = rows(300)
    with path.open("w") as lines:
        for number in range(3000):
            text = f"{base[number % 300][0]} {number} {'filling ' * 300}"
            text += " jo@firm.ch" if number % 10 == 0 else ""
            lines.write(json.dumps({"prompt": text, "completion": base[number % 300][1]}) + "\n")
        lines.write("broken\n")
    check(table(tmp_path, rows(20)))  # what is imported and remembered once
    tracemalloc.start()
    try:
        report = check(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.rows == 3000 and len(report.problem("personal-data").rows) == 5
    assert (report.problem("personal-data").count, report.problem("unreadable-rows").count) == (300, 1)
    assert report.problem("unreadable-rows").rows == [f"{path}:3001"]
    assert path.stat().st_size > 7_500_000
    # Counters of word pairs (16 MiB), pairs that wait in memory, and what one piece of work needs; no rows.
    assert most < 60 * 2**20


def test_no_room_for_temporary_files_is_told(tmp_path):
    path = table(tmp_path, rows(4000))
    script = (
        "import resource, sys, allmend.data.word_pairs as pairs\n"
        "from allmend.cli import run_command as run\n"
        "pairs.IN_MEMORY = 1\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"sys.exit(run(['data', 'check', {str(path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 7 and "TMPDIR" in done.stderr and "Traceback" not in done.stderr


def test_a_file_of_which_no_row_can_be_read(tmp_path):
    (tmp_path / "a.jsonl").write_text("bad\nworse\n")
    with pytest.raises(InputError, match="no row of it can be read"):
        check(tmp_path / "a.jsonl")


def test_the_command_counts_as_a_model_does(tmp_path, capsys, with_bos):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"vocab_size": 300, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
             "num_attention_heads": 1, "num_key_value_heads": 1}  # fmt: skip
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(tmp_path / "model")
    with_bos.save_pretrained(tmp_path / "model")
    path = table(tmp_path, [*rows(30), ("x" * 300, "pos")])
    words = ["data", "check", str(path), "--model", str(tmp_path / "model"), "--json"]
    assert command([*words, "--context", "200"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [problem["id"] for problem in report["problems"]] == ["longer-than-context"]
    assert {size["unit"] for size in report["lengths"]} == {"characters", "words", "tokens"}
    assert command(words) == 0
    assert json.loads(capsys.readouterr().out)["unchecked"][1]["what"] == "rows longer than the context"
    assert command(["data", "check", str(path), "--context", "200"]) == 2


def test_settings_and_signature_agree():
    import inspect

    from allmend.verbs.data_check import DataCheckSettings

    keywords = [name for name, one in inspect.signature(data_check).parameters.items() if one.kind is one.KEYWORD_ONLY]
    assert keywords == list(DataCheckSettings.model_fields)


def trip_problems(rows, tokenizer, template):
    lengths = TokenLengths(tokenizer, template, None)
    for row in rows:
        lengths.look(row)
    return {problem.id: problem.rows for problem in lengths.findings()}


def test_the_way_to_tokens_and_back():
    """A template without an end, one with a beginning of its own, letters a tokenizer does not know."""
    tokenizer = tiny.tokenizer()
    asked = [Row(prompt=f"question {n}", completion=f"answer {n}", place=f"rows:{n}") for n in range(4)]
    assert not trip_problems(asked, tokenizer, PLAIN)
    known = Tokenizer(models.WordLevel({"question": 0, "answer": 1, "<end>": 2, "<unk>": 3}, unk_token="<unk>"))
    known.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=known, eos_token="<end>", unk_token="<unk>")
    assert trip_problems(asked, words, PLAIN)["round-trip"] == ["rows:0", "rows:1", "rows:2", "rows:3"]
    begins = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token="<end>", bos_token="<start>"
    )
    begins.backend_tokenizer.post_processor = TemplateProcessing(single="<start> $A", special_tokens=[("<start>", 257)])
    twice = Template("mine", "{{ bos_token }}{{ bos_token }}" + PLAIN.text)
    try:
        assert trip_problems(asked, begins, twice)["double-beginning"][0] == "rows:0"
    finally:
        begins.backend_tokenizer.post_processor = None


def test_the_preview_says_what_is_learned_of_every_answer(tmp_path):
    turns = [("user", "one?"), ("assistant", "first"), ("user", "two?"), ("assistant", "second")]
    messages = [{"role": role, "content": text} for role, text in turns]
    data = tmp_path / "talk.jsonl"
    data.write_text("".join(json.dumps({"messages": messages, "n": n}) + "\n" for n in range(3)))
    report = check(data, tokenizer=tiny.tokenizer())
    learned = [text for text, learns in report.previews[0].parts if learns]
    assert [any(word in text for text in learned) for word in ("first", "second", "one?")] == [True, True, False]
    sizes = next(size for size in report.lengths if size.unit == "tokens")
    assert sum(sizes.bins) == 3
