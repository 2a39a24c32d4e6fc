"""References as people write them: parsed, or refused in words, whatever they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmend.errors import AllmendError, NotFound, UsageError
from allmend.models import parse
from allmend.nouns.model import ModelRef

WORDS = st.text(max_size=40) | st.from_regex(r"(hub://)?[~./\w-]{0,6}[A-Za-z0-9._@/:%-]{0,300}", fullmatch=True)


@given(WORDS)
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_reference_or_our_error(text: str) -> None:
    try:
        ref = parse(text)
    except AllmendError as error:
        assert error.message
        return
    assert ModelRef.from_json(ref.to_json()) == ref
    assert parse(str(ref)) == ref


NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_]{0,8}([.-][A-Za-z0-9_]{1,8}){0,2}", fullmatch=True)


@given(owner=NAME, name=NAME, revision=st.none() | st.from_regex(r"[A-Za-z0-9._/-]{1,20}", fullmatch=True))
@settings(deadline=None)
def test_hub_names(owner: str, name: str, revision: str | None) -> None:
    if name.endswith(".gguf"):
        return
    at = f"@{revision}" if revision else ""
    if at.endswith((".gguf", "/")):
        return
    ref = parse(f"{owner}/{name}{at}")
    assert (ref.source, ref.name, ref.revision, ref.endpoint) == ("hub", f"{owner}/{name}", revision, None)
    other = parse(f"hub://hub.example:8080/{owner}/{name}{at}")
    assert (other.name, other.revision, other.endpoint) == (ref.name, revision, "https://hub.example:8080")
    assert parse(f"hub://localhost:1/{owner}/{name}").endpoint == "http://localhost:1"


def test_files_folders_and_catalogue_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    (tmp_path / "m.bin").write_bytes(b"x")
    assert parse("gemma-3-270m").source == "catalogue"
    assert parse(" gemma-3-270m ").name == "gemma-3-270m"
    assert parse("owner/name").source == "folder"
    assert parse("m.gguf").source == "file" and parse(str(tmp_path / "m.gguf")).source == "file"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse("~/owner/name").source == "folder"
    with pytest.raises(UsageError, match=r"not a \.gguf"):
        parse("m.bin")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", UsageError),
        ("  ", UsageError),
        ("a\0b", UsageError),
        ("hub://", UsageError),
        ("hub://host", UsageError),
        ("hub://host/name", UsageError),
        ("owner/name@", UsageError),
        ("./nowhere", NotFound),
        ("nowhere.gguf", NotFound),
        ("gemma-3-270n", NotFound),
        ("a/b/c", NotFound),
        ("owner/../name", NotFound),
        ("~nobody-of-that-name/x", NotFound),
        ("x" * 5000, NotFound),
        ("a/" + "x" * 5000, AllmendError),
    ],
)
def test_what_is_none(text: str, kind: type[AllmendError]) -> None:
    with pytest.raises(kind):
        parse(text)


def test_the_nearest_is_named() -> None:
    with pytest.raises(NotFound) as caught:
        parse("gema-3-270m")
    assert "gemma-3-270m" in (caught.value.hint or "")


def test_an_unreadable_folder_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        assert parse(str(tmp_path)).source == "folder"  # root reads everything
        return
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(AllmendError):
        parse(str(tmp_path / "closed" / "model"))
