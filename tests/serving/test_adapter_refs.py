"""What a person may write after `NAME=`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from allmend import runs
from allmend.data.templates import PLAIN
from allmend.errors import FetchError, NotFound, UsageError
from allmend.serving import adapter_refs
from allmend.serving.targets import _PLAIN_STOPS


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_run_stands_for_its_adapter(folders: Any) -> None:
    with runs.record("tune", settings={}, subject="reviews.csv") as run:
        target = run.folder / "adapter"
        target.mkdir()
        for file in folders.adapters["mine"].iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        run.output("adapter", target)
    assert adapter_refs.folder_of("last:tune") == target
    assert adapter_refs.folder_of(run.id) == target
    assert adapter_refs.read(str(run.folder)).folder == target


def test_a_run_without_an_adapter_says_so() -> None:
    with runs.record("tune", settings={}, subject="reviews.csv") as run:
        pass
    with pytest.raises(NotFound, match="no adapter"):
        adapter_refs.folder_of(run.id)
    with pytest.raises(NotFound):
        adapter_refs.folder_of("no-such-run")


def test_a_hub_that_is_not_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((FetchError, NotFound)):
        adapter_refs.folder_of("owner/adapter@main")


@pytest.mark.parametrize("text", ["", "x", "=x", "x=", "a b=x", "../a=x"])
def test_what_is_not_name_and_reference_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        adapter_refs.split(text)


def test_the_plain_templates_turns_end_an_answer() -> None:
    roles = ("system", "developer", "user", "assistant", "tool")
    for role in roles:
        messages = [{"role": "user", "content": "x"}, {"role": role, "content": "y"}]
        second = PLAIN.render(messages).split("x", 1)[1]
        assert second.startswith(_PLAIN_STOPS), (role, second)
