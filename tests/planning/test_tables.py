"""Tables are data: every row can be read, and other packages may add some."""

from __future__ import annotations

import json
import tomllib
from importlib import resources
from importlib.metadata import EntryPoint
from typing import get_args

import pytest

from allmend.errors import InputError
from allmend.notebooks import read_bytes
from allmend.nouns.plan import EffectKind
from allmend.planning import plan_notebook, tables
from allmend.planning.effects.readers import READERS
from allmend.planning.hosts import families, family_of

ADDED = """
[[call]]
paths = ["ourlib.fetch", "ourlib.*.fetch"]
kind = "model"
arg = [0, "name"]
prefix = "ourlib:"
"""


def test_every_row_names_a_kind_and_a_reader() -> None:
    for file in resources.files("allmend.planning").joinpath("tables").iterdir():
        for row in tomllib.loads(file.read_text("utf-8")).get("call", []):
            assert row["kind"] in get_args(EffectKind), row
            assert row.get("as", "name") in READERS, row
            assert "arg" in row or "target" in row or "as" in row, row


def with_entry_point(monkeypatch: pytest.MonkeyPatch, value: object) -> None:
    class Point(EntryPoint):
        def load(self) -> object:
            return value

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Point("ours", "x:y", group)])
    tables.load.cache_clear()


def test_another_package_adds_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with_entry_point(monkeypatch, lambda: ADDED)
    try:
        cell = {"cell_type": "code", "source": "from ourlib import fetch as f\nf('tiny')", "metadata": {}}
        data = json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}).encode()
        effects = plan_notebook(read_bytes(data), path="a.ipynb").effects
        assert [(e.kind, e.target) for e in effects] == [("model", "ourlib:tiny")]
    finally:
        monkeypatch.undo()
        tables.load.cache_clear()


def test_a_broken_table_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_entry_point(monkeypatch, "[[call")
    try:
        with pytest.raises(InputError, match="cannot be read"):
            tables.load()
    finally:
        monkeypatch.undo()
        tables.load.cache_clear()


@pytest.mark.parametrize(
    ("host", "family"),
    [("huggingface.co", "huggingface"), ("cdn-lfs.hf.co", "huggingface"), ("objects.githubusercontent.com", "github"),
     ("files.pythonhosted.org", "pypi"), ("drive.usercontent.google.com", "google-drive"), ("abc.gradio.live", "gradio-share")],
)  # fmt: skip
def test_hosts_and_what_they_redirect_to(host: str, family: str) -> None:
    found = family_of(host)
    assert found is not None
    assert found.name == family


def test_a_host_of_nobody_has_no_family() -> None:
    assert family_of("collect.example") is None
    assert all(family.source and family.hosts for family in families().values())


def test_a_plan_names_the_hosts_behind_a_model() -> None:
    source = "from transformers import AutoModel\nAutoModel.from_pretrained('org/x')"
    cell = {"cell_type": "code", "source": source, "metadata": {}}
    data = json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}).encode()
    uses = {use.host: use for use in plan_notebook(read_bytes(data), path="a.ipynb").hosts}
    assert {"huggingface.co", "cdn-lfs.hf.co"} <= set(uses)
    assert uses["huggingface.co"].for_ == ["hf:org/x"]
