"""Rows that a check shows as training sees them: which are chosen, what of them is learned, what is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from allmend.cli import run_command as command
from allmend.cli.data import visible
from allmend.data import check, encode


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    rows = [{"prompt": f"row {n}" + " and more" * (30 if n in (7, 9) else 0), "completion": "abc"[n // 8 % 3]}
            for n in range(48)]  # fmt: skip
    rows[9]["prompt"] += " still"
    return table(tmp_path / "rows.jsonl", rows)


def test_the_first_the_cut_the_longest_and_one_of_each_label_are_chosen(labelled: Path, with_bos: Any) -> None:
    shown = check(labelled, tokenizer=with_bos, context=120, preview=5).previews
    assert [int(one.place.rpartition(":")[2]) for one in shown] == [1, 8, 9, 10, 17]
    whys = ["the first that is longer than the context", "the first 'b'", "the longest", "the first 'c'"]
    assert [one.why for one in shown][1:] == whys
    assert [one.place for one in check(labelled, preview=1).previews] == [f"{labelled}:1"]
    assert check(labelled, preview=0).previews == []
    assert len(check(labelled, preview=20).previews) == 20


def test_what_is_shown_is_what_is_encoded(labelled: Path, with_bos: Any) -> None:
    """Cut and rest together are the row; the rest, tokenised, has as many tokens as the context."""
    from allmend.data import read_rows
    from allmend.data.templates import PLAIN

    shown = next(one for one in check(labelled, tokenizer=with_bos, context=120).previews if one.cut_tokens)
    row = next(row for row in read_rows(labelled) if row.place == shown.place)
    tokens = encode(row, with_bos, PLAIN, context=120)
    assert with_bos.decode(tokens.ids) == "".join(text for text, _ in shown.parts)
    assert shown.cut_tokens == tokens.cut and "row 7" in shown.cut
    learned = [number for number, learns in zip(tokens.ids, tokens.mask, strict=True) if learns]
    assert with_bos.decode(learned) == shown.learned and shown.learned.endswith("<eos>")


def test_answers_of_weight_nothing_are_read_and_not_learned(tmp_path: Path, chatting: Any) -> None:
    def talk(n: int, weight: int) -> list[dict[str, Any]]:
        words = [("user", "one?"), ("assistant", "first"), ("user", f"two {n}?"), ("assistant", "second")]
        talked: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in words]
        talked[1]["weight"] = weight
        return talked

    for weight in (0, 1):
        data = table(tmp_path / f"{weight}.jsonl", [{"messages": talk(n, weight)} for n in range(6)])
        for tokenizer in (chatting, None):
            learned = check(data, tokenizer=tokenizer).previews[0].learned
            assert ("first" in learned) == bool(weight) and "second" in learned


def test_characters_that_steer_a_terminal_are_spelled_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"\x1b]0;title\x07\u202eabc {n}", "completion": f"family 👨‍👩‍👧 {n}"} for n in range(30)]
    assert command(["data", "check", str(table(tmp_path / "rows.jsonl", rows)), "--preview", "2"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b]" not in shown and "\u202e" not in shown and "\x07" not in shown
    assert "<U+001B>]0;title<U+0007><U+202E>abc" in shown and "👨‍👩‍👧" in shown
    assert visible("plain\ttext\n") == "plain\ttext\n"
