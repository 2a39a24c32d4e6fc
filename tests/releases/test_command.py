"""`allmend ship` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small

from allmend.cli import run_command as cli


def test_shipping_and_verifying_from_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = small.run(place), place / "out"
    assert cli(["ship", "key", str(place / "key")]) == 0
    words = ["ship", run, "--gguf", "q8_0", "--sign", str(place / "key"), "--to", str(out), "--prompts", "2", "--json"]
    capsys.readouterr()
    assert cli(words) == 0
    release = json.loads(capsys.readouterr().out)
    assert release["signed"] and [one["name"] for one in release["artefacts"]] == [
        "adapter", "gguf-q8_0", "gguf-adapter",
    ]  # fmt: skip
    assert cli(["ship", "verify", str(out), "--key", str(place / "key.pub")]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    (out / "README.md").write_text("It is twice as good.")
    assert cli(["ship", "verify", str(out), "--json"]) == 4
    assert "README.md: its bytes were changed" in json.loads(capsys.readouterr().out)["problems"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["ship", "nowhere"], 5),
        (["ship", "verify", "nowhere"], 5),
        (["ship", "last", "--gguf", "q9"], 5),
        (["ship"], 2),
    ],
)
def test_what_cannot_be_done_ends_with_its_code(place: Path, words: list[str], code: int) -> None:
    assert cli(words) == code
