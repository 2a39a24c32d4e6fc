"""`allmend keys` and `allmend usage` as an operator reads them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from allmend.access import audit, keys, usage
from allmend.access.limits import Limits
from allmend.cli import columns
from allmend.cli import keys as keys_commands
from allmend.cli import usage as usage_commands
from allmend.errors import UsageError
from allmend.verbs.keys_create import keys_create


@pytest.fixture(autouse=True)
def home(own_home: Path) -> Path:
    return own_home


def test_keys_are_shown_whole_whatever_they_are_called(capsys: pytest.CaptureFixture[str]) -> None:
    scopes = ["serve:chat", "serve:embeddings", "serve:audio", "serve:files", "serve:search"]
    made = keys_create(
        "[/]odd [bold]büro 李", account="anna", scope=scopes, requests_per_minute=60, tokens_per_day=10**6
    )
    keys_commands.list_command()
    head, row = capsys.readouterr().out.splitlines()
    assert f"allm_{made.key.id}" in row and "[/]odd [bold]büro 李" in row and " ".join(made.key.scopes) in row
    assert head.index("scopes") - row.index(" ".join(made.key.scopes)) == 1  # 李 is two columns wide.
    assert "60 requests/min, 1,000,000 tokens/day" in row


def test_a_narrow_terminal_gets_a_block_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=60, color_system=None, highlight=False)
    monkeypatch.setattr("allmend.cli.show.out", lambda: console)
    columns.print_columns(["key", "name", "limits"], [["allm_a", "x" * 70, ""], ["allm_b", "y", "3 at once"]])
    assert shown.getvalue().splitlines() == [
        "allm_a", f"  name    {'x' * 70}", "allm_b", "  name    y", "  limits  3 at once"
    ]  # fmt: skip


def test_the_log_obeys_nothing_that_stands_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    audit.record("anna", "adapter.load", "x\x1b[2J\n[/]", path="\u202e[red]/tmp")
    keys_commands.audit_command()
    said = capsys.readouterr().out
    assert "x\\x1b[2J\\n[/]" in said and "\\u202e[red]/tmp" in said and "\x1b" not in said


def test_a_rotated_key_is_shown_this_once(capsys: pytest.CaptureFixture[str]) -> None:
    made = keys_create("phone")
    keys_commands.rotate_command("phone")
    (text,) = capsys.readouterr().out.splitlines()
    assert keys.identify(text) is not None and keys.identify(made.text) is None
    keys_commands.rotate_command("phone", json=True)
    assert keys.identify(json.loads(capsys.readouterr().out)["text"]) is not None


def test_months_without_rows_have_columns_and_words(capsys: pytest.CaptureFixture[str]) -> None:
    usage_commands.summary_command(month="2020-01", csv=True)
    usage_commands.summary_command(month="2020-01", csv=True, rows=True)
    sums, rows = (next(csv.reader([line])) for line in capsys.readouterr().out.splitlines())
    assert sums == ["month", "account", "model", *usage.SUMS] and rows == list(usage.COLUMNS)
    usage_commands.summary_command(month="2020-01", json=True)
    assert json.loads(capsys.readouterr().out) == []
    usage_commands.summary_command(month="2020-01", account="anna")
    assert "Nothing of anna in 2020-01" in capsys.readouterr().err.replace("\n", " ")


def test_a_user_that_no_request_can_name_gets_no_limits() -> None:
    from allmend.verbs.keys_limits import keys_limits

    keys_create("phone", forwarded_users=True)
    for wrong in ("", " a", "x" * 201, "a\nb"):
        with pytest.raises(UsageError, match="printable"):
            keys_limits("phone", user=wrong, concurrent=1)
    keys_limits("phone", user="José 李", concurrent=1)


def test_limits_of_zero(capsys: pytest.CaptureFixture[str]) -> None:
    made = keys_create("phone", requests_per_minute=5, adapters=0, priority=0)
    assert made.key.limits == Limits(requests_per_minute=5, adapters=0)
    from allmend.verbs.keys_limits import keys_limits

    assert keys_limits("phone", requests_per_minute=0).limits == Limits(adapters=0)
    keys_commands.list_command()
    assert "0 adapters/day" in capsys.readouterr().out
