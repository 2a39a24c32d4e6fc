"""Documents: every word is found again, what changed is read anew, and what cannot be read is named."""

from __future__ import annotations

import io
import json
import os
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import encoders
from allmend.documents import store as stores
from allmend.documents.asking import ask
from allmend.documents.build import Reader
from allmend.documents.passages import Passage, passages
from allmend.documents.reading import READERS, read
from allmend.documents.store import About, Document, Index
from allmend.errors import InputError, NotFound, UsageError
from allmend.verbs.index import index, index_folder, indexes


def text_of(name: str, content: bytes) -> str:
    answer = json.loads(read(json.dumps({"name": name}).encode() + b"\n" + content))
    return "\n".join(text for _, text in answer["parts"])


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=3000), st.integers(20, 400), st.integers(0, 60))
def test_passages_hold_every_word_and_no_more_than_they_may(text: str, size: int, overlap: int) -> None:
    pieces = list(passages(text, size=size, overlap=overlap))
    assert all(0 < len(piece.text) <= size for piece in pieces)
    joined = "".join(character for piece in pieces for character in piece.text)
    for word in re.findall(r"\w+", text):
        assert len(word) > size // 2 or word in joined


def test_headings_go_with_what_stands_below_them() -> None:
    text = "# Garden\n\n" + "Tomatoes. " * 60 + "\n\n" + "Beans. " * 80
    found = list(passages(text, size=400))
    assert len(found) > 2 and {piece.heading for piece in found[1:]} == {"Garden"}


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(READERS)), st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(ending: str, content: bytes) -> None:
    try:
        text_of(f"file.{ending}", content)
    except ValueError as error:
        assert str(error)


def word_document(text: str, *, extra: bytes = b"") -> bytes:
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in text.split("\n"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f'<w:document xmlns:w="{space}"><w:body>{body}</w:body></w:document>')
        archive.writestr("word/media/extra", extra)
    return out.getvalue()


def test_each_kind_is_read() -> None:
    from pypdf import PdfWriter

    assert text_of("a.docx", word_document("First\nSecond")) == "First\nSecond"
    page = "<head><title>no</title></head><body><h1>Yes</h1><script>no()</script><p>And &amp; so<br>on</p>"
    assert text_of("a.html", page.encode()).split() == ["Yes", "And", "&", "so", "on"]
    notebook = {"cells": [{"cell_type": "code", "source": "x = 1", "outputs": [{"text": "no"}]}]}
    assert text_of("a.ipynb", json.dumps(notebook).encode()) == "x = 1"
    assert text_of("a.txt", "grüezi".encode("latin-1")) == "grüezi"
    out = io.BytesIO()
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    writer.write(out)
    assert text_of("a.pdf", out.getvalue()) == ""


def test_files_made_to_do_harm_are_refused() -> None:
    bomb = "<!DOCTYPE x [" + "".join(
        f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha"}">' for n in range(12)
    ) + "]><x>&e11;</x>"  # fmt: skip
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", bomb)
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", bytes(80 << 20))
    reader = Reader()
    try:
        for name, content in (
            ("bomb.docx", out.getvalue()),
            ("huge.docx", huge.getvalue()),
            ("deep.ipynb", b'{"cells":' + b"[" * 100_000),
            ("binary.txt", b"\0\1\2" * 100),
            ("what.exe", b"MZ"),
        ):
            with pytest.raises(InputError):
                reader.passages(name, content)
        deep = reader.passages("deep.html", b"<div>" * 100_000 + b"found")[0]
        assert deep[-1].text == "found"
    finally:
        reader.close()


def about(width: int = 4) -> About:
    return About(name="test", model="m", digest="d", width=width)


def put(found: Index, path: str, texts: list[str], vectors: Any) -> None:
    found.put(Document(path, path, 1, 1), [Passage(text) for text in texts], np.array(vectors, dtype=np.float32))


def test_meaning_and_words_are_joined(tmp_path: Path) -> None:
    found = Index.create(tmp_path / "index", about())
    put(found, "a", ["the quick fox", "order 4711"], [[1, 0, 0, 0], [0, 1, 0, 0]])
    put(found, "b", ["slow snail"], [[0.9, 0.1, 0, 0]])
    best = ask(found, "4711", np.array([1.0, 0, 0, 0]), most=3)
    assert best[0].text in ("order 4711", "the quick fox")
    assert {hit.text for hit in best} == {"order 4711", "the quick fox", "slow snail"}
    assert ask(found, 'fox" OR NEAR(', np.array([1.0, 0, 0, 0]))[0].text == "the quick fox"
    assert ask(found, "fox", np.array([1.0, 0, 0, 0]))[0].score == pytest.approx(1)
    put(found, "a", ["something else"], [[0, 0, 1, 0]])
    assert {hit.text for hit in ask(found, "fox", np.array([0, 0, 1.0, 0]))} == {"something else", "slow snail"}
    assert found.remove("b") and found.count() == 1
    assert Index(tmp_path / "index").count() == 1


def test_the_graph_answers_as_comparing_all_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    found = Index.create(tmp_path / "index", about(16))
    vectors = chance.standard_normal((600, 16))
    put(found, "a", [f"text {n}" for n in range(600)], vectors)
    plain = [found.by_meaning(vector, 5) for vector in vectors[:20]]
    monkeypatch.setattr(stores, "GRAPH_FROM", 100)
    for again in (found, Index(tmp_path / "index")):  # made, and read from disk
        graph = [again.by_meaning(vector, 5) for vector in vectors[:20]]
        same = sum(len({n for n, _ in a} & {n for n, _ in b}) for a, b in zip(plain, graph, strict=True))
        assert same >= 97
        assert graph[3][0][1] == pytest.approx(1, abs=0.01)
    assert len(list((tmp_path / "index").glob("graph-*.usearch"))) == 1
    put(found, "b", ["new"], [[1.0] * 16])
    assert found.get([found.by_meaning(np.ones(16), 1)[0][0]])
    assert len(list((tmp_path / "index").glob("graph-*.usearch"))) == 1


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    return tmp_path


def test_a_folder_is_followed_by_digest(home: Path) -> None:
    model = str(encoders.folder(home / "model"))
    notes = home / "notes"
    notes.mkdir()
    (notes / "a.md").write_text("# One\n\nAbout whales.")
    (notes / "b.txt").write_text("About bread.")
    (notes / ".hidden.txt").write_text("secret")
    (notes / "c.pdf").write_bytes(b"%PDF-1.4 broken")
    (notes / "link.txt").symlink_to("/etc/hostname")
    first = index(notes, model=model, ask="whales bread")
    assert (first.documents, first.indexed, first.name) == (2, 2, "notes")
    assert set(first.not_read) == {"c.pdf"} and {hit.path for hit in first.found} == {"a.md", "b.txt"}
    again = index(notes)
    assert (again.indexed, again.unchanged, set(again.not_read)) == (0, 3, {"c.pdf"})
    (notes / "b.txt").write_text("About wine instead.")
    os.utime(notes / "a.md", ns=(time.time_ns(), time.time_ns()))
    (notes / "c.pdf").unlink()
    third = index(notes, ask="wine")
    assert (third.indexed, third.unchanged, third.removed) == (1, 1, 1)
    assert third.found[0].text == "About wine instead."
    assert [each.name for each in indexes().indexes] == ["notes"]
    assert index(None, name="notes", ask="whales").found[0].path in ("a.md", "b.txt")
    with pytest.raises(UsageError, match="was made with"):
        index(notes, model=str(encoders.folder(home / "other", mode="cls")))
    with pytest.raises(UsageError, match="follows"):
        index(home / "model", name="notes")
    with pytest.raises(NotFound):
        index(None, name="nothing", ask="x")


def test_what_is_no_index_is_said(home: Path) -> None:
    index_folder("broken").mkdir(parents=True)
    (index_folder("broken") / "index.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 500)
    with pytest.raises(InputError, match="broken"):
        Index(index_folder("broken"))
