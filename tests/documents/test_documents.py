"""Documents: every word is found again, what changed is read anew, and what cannot be read is named."""

from __future__ import annotations

import io
import json
import os
import re
import sys
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


def test_a_page_is_read_as_people_see_it() -> None:
    page = """<!doctype html><html><head><meta charset="utf-8"><title>no</title><style>p{}</style>
    <body><p>Two
    lines.<table><tr><th>Name<th>Age<tr><td>Anna<td>42</table><pre>def f():
    return 1</pre><nav>Go</nav>on"""
    assert text_of("a.html", page.encode()).splitlines() == [
        "Two lines.", "", "Name\tAge", "Anna\t42", "", "def f():", "    return 1", "", "Go", "on",
    ]  # fmt: skip
    assert text_of("a.html", b"<ul><li>one</li><li> two<b>!</b></li></ul>\n<p>three") == "one\ntwo!\n\nthree"


SPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def word_parts(body: str, **parts: str) -> bytes:
    out = io.BytesIO()
    spaces = f'xmlns:w="{SPACE}" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f"<w:document {spaces}><w:body>{body}</w:body></w:document>")
        for name, inner in parts.items():
            archive.writestr(f"word/{name}.xml", f"<w:{name} {spaces}>{inner}</w:{name}>")
    return out.getvalue()


def test_a_word_file_is_read_with_its_tables_notes_and_boxes() -> None:
    def run(text: str) -> str:
        return f"<w:r><w:t>{text}</w:t></w:r>"

    def cell(text: str) -> str:
        return f"<w:tc><w:p>{run(text)}</w:p></w:tc>"

    heading = f'<w:p><w:pPr><w:pStyle w:val="Heading2"/><w:tabs><w:tab/></w:tabs></w:pPr>{run("Trains")}</w:p>'
    broken = f"<w:p>{run('one')}<w:r><w:tab/></w:r>{run('two')}<w:r><w:br/></w:r>{run('three')}</w:p>"
    table = f"<w:tbl><w:tr>{cell('Bern')}{cell('9:00')}</w:tr><w:tr>{cell('Thun')}{cell('')}</w:tr></w:tbl>"
    box = f"<w:p>{run('in a box')}</w:p>"
    drawn = f"<w:p>{run('before')}<mc:AlternateContent><mc:Choice>{box}</mc:Choice>"
    drawn += f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:p>"
    notes = f"<w:footnote><w:p>{run('a note')}</w:p></w:footnote>"
    said = text_of("a.docx", word_parts(heading + broken + table + drawn, footnotes=notes))
    assert said.splitlines() == [
        "## Trains", "one\ttwo", "three", "Bern\t9:00", "Thun\t", "in a box", "before", "a note",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "caf\u00e9 \u2013 na\u00efve".encode("utf-16"), "caf\u00e9 \u2013 na\u00efve"),
        ("a.csv", b"\xff\xfe\0\0" + "b\u00fc".encode("utf-32-le"), "b\u00fc"),
        ("a.txt", b"one \x93two\x94", "one \u201ctwo\u201d"),
        ("a.md", "gr\u00fcezi\n".encode() + "Z\u00fcrich".encode("cp1252"), "gr\u00fcezi\nZ\u00fcrich"),
        ("a.html", b'<meta charset="Shift_JIS">' + "\u6771\u4eac".encode("shift_jis"), "\u6771\u4eac"),
        ("a.py", "# coding: koi8-r\n# \u043c\u0438\u0440".encode("koi8-r"), "# coding: koi8-r\n# \u043c\u0438\u0440"),
        ("a.html", b'<meta charset="idna">\xe9t\xe9', "\u00e9t\u00e9"),
        ("a.txt", b"one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("a.ipynb", b'{"cells": [{"cell_type": "code", "source": "a\\ud83d"}]}', "a\ufffd"),
        ("v1.2/README", b"Read me.", "Read me."),
        ("LICENSE", "\u00a9 us".encode("utf-16"), "\u00a9 us"),
        ("a.ipynb", b'{"worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1"]}]}]}', "x = 1"),
    ],
)
def test_text_is_read_in_the_encoding_that_it_is_in(name: str, content: bytes, says: str) -> None:
    assert text_of(name, content) == says


@pytest.mark.parametrize("name", ["program", "a.bin", "v1.md/program"])
def test_a_program_is_no_text(name: str) -> None:
    with pytest.raises(ValueError, match="this kind of file is not read"):
        text_of(name, Path(sys.executable).read_bytes()[:10_000])


def test_a_page_of_a_pdf_that_cannot_be_read_leaves_the_others() -> None:
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, EncodedStreamObject, NameObject

    font = DictionaryObject(
        {NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
         NameObject("/BaseFont"): NameObject("/Helvetica")}
    )  # fmt: skip
    writer = PdfWriter()
    for number in range(3):
        page = writer.add_blank_page(200, 200)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream: Any = DecodedStreamObject()
        if number == 1:
            stream = EncodedStreamObject()
            stream[NameObject("/Filter")] = NameObject("/Unheard-of")
        stream._data = f"BT /F1 12 Tf 20 100 Td (page number {number + 1}) Tj ET".encode()
        page[NameObject("/Contents")] = writer._add_object(stream)
    out = io.BytesIO()
    writer.write(out)
    reader = Reader()
    try:
        pieces, note = reader.passages("a.pdf", out.getvalue())
    finally:
        reader.close()
    assert [(piece.page, piece.text) for piece in pieces] == [(1, "page number 1"), (3, "page number 3")]
    assert note == "page 2 cannot be read"


def test_listings_keep_their_lines_and_their_comments_are_no_headings() -> None:
    listing = "\n".join(f"    if a == {n}:\n        # see {n}\n        return {n}" for n in range(60))
    source = f"class A:\n{listing}\n"
    reader = Reader()
    try:
        code = reader.passages("a.py", source.encode())[0]
        guide = f"# Guide\n\nBefore.\n\n```sh\n# not a heading\n{listing}\n```\n\n## After\n\n{'Words. ' * 200}"
        marked = reader.passages("a.md", guide.encode())[0]
        rows = "\n".join(f"2025-01-{n % 28 + 1:02},Bern,{n}" for n in range(300))
        table = reader.passages("a.CSV", f"date,town,units\n{rows}".encode())[0]
    finally:
        reader.close()
    assert len(code) > 3 and {piece.heading for piece in code} == {None}
    assert table[0].text.startswith("date,town,units\n") and {piece.heading for piece in table[1:]} == {
        "date,town,units"
    }
    assert set("\n".join(piece.text for piece in code).splitlines()) == set(source.splitlines())
    assert marked[0].heading == "Guide" and marked[1].heading == "Guide" and marked[-1].heading == "After"
    assert {piece.heading for piece in marked} == {"Guide", "After"}


def test_a_line_without_an_end_is_cut_in_no_time() -> None:
    line = "x" * (4 << 20)
    began = time.process_time()
    found = list(passages(line))
    assert "".join(piece.text for piece in found) == line
    assert time.process_time() - began < 30


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


def test_a_score_is_the_cosine_raised_by_shared_words_whatever_else_is_found(tmp_path: Path) -> None:
    found = Index.create(tmp_path / "index", about())
    put(found, "a", ["the quick fox", "order 4711", "far away"], [[0.6, 0.8, 0, 0], [0, 1, 0, 0], [-1, 0, 0, 0]])
    east = np.array([1.0, 0, 0, 0])

    def scores(question: str, **options: Any) -> dict[str, float]:
        hits = ask(found, question, east, **options)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        return {hit.text: round(hit.score, 3) for hit in hits}

    assert scores("nothing of it") == {"the quick fox": 0.6, "order 4711": 0, "far away": 0}
    assert scores("fox") == {"the quick fox": 0.8, "order 4711": 0, "far away": 0}
    assert scores("4711") == {"the quick fox": 0.6, "order 4711": 0.5, "far away": 0}
    assert 0.3 < scores("4711 elsewhere", weights=(0, 1))["order 4711"] < 0.5  # "elsewhere" stands nowhere: rarer.
    assert scores("4711", weights=(0, 1)) == {"order 4711": 1}
    assert scores("4711", weights=(1, 0))["order 4711"] == 0
    assert scores("4711", most=1) == {"the quick fox": 0.6}
    put(found, "b", ["the same"] * 200, [[0.9, 0, 0, 0]] * 200)
    assert scores("4711", most=500)["order 4711"] == 0.5  # found by its words alone, behind 201 nearer ones
    assert ask(found, "_ __", east, weights=(0, 1)) == []


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


def test_nobody_waits_for_a_graph_that_is_made_for_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Index.create(tmp_path / "index", about())
    put(found, "a", ["one", "two"], [[1, 0, 0, 0], [0, 1, 0, 0]])
    monkeypatch.setattr(stores, "GRAPH_FROM", 1)
    asked = np.array([0, 1.0, 0, 0])
    found.by_meaning(asked, 1)
    with found._graph._making:  # Somebody makes it.
        assert found.by_meaning(asked, 1)[0][1] == pytest.approx(1)
        assert found._graph._made is None
    assert found.by_meaning(asked, 1)[0][1] == pytest.approx(1, abs=1e-3)
    assert found._graph._made is not None


def test_two_changes_at_once_are_both_seen(tmp_path: Path) -> None:
    found, other = Index.create(tmp_path / "index", about()), Index(tmp_path / "index")
    for number in range(40):  # many within a tick of the clock that files are stamped by
        vector = np.zeros((1, 4), dtype=np.float32)
        vector[0, number % 4] = 1
        put(other, "a", [f"text {number}"], vector)
        (hit,) = ask(found, "", vector[0])
        assert hit.text == f"text {number}" and found.by_meaning(vector[0], 1)[0][1] == pytest.approx(1)
    other.describe(name="new")
    assert other.about.name == "new" and Index(tmp_path / "index").about.changes == 40


def test_a_choice_of_passages_is_searched_to_its_end(tmp_path: Path) -> None:
    found = Index.create(tmp_path / "index", about())
    put(found, "common", ["the fox"] * 300, [[1, 0, 0, 0]] * 300)
    found.put(Document("rare", "r", 1, 1, attributes={"year": 1}), [Passage("the fox")], np.array([[0.9, 0.1, 0, 0]]))
    chosen = found.within(lambda attributes: attributes.get("year") == 1)
    (hit,) = ask(found, "fox", np.array([1.0, 0, 0, 0]), among=chosen)
    assert hit.path == "rare"
    assert ask(found, "fox", np.array([1.0, 0, 0, 0]), among=set()) == []


def test_an_index_that_was_deleted_is_no_index_and_none_is_made(tmp_path: Path) -> None:
    found = Index.create(tmp_path / "index", about())
    (tmp_path / "index" / "index.sqlite").unlink()
    with pytest.raises(NotFound, match="deleted"):
        found.documents()
    assert not (tmp_path / "index" / "index.sqlite").exists()
    (tmp_path / "index" / "index.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(InputError, match="broken"):
        found.documents()


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


def test_a_folder_that_changes_while_it_is_read_and_files_that_cannot_be(home: Path) -> None:
    model = str(encoders.folder(home / "model"))
    notes = home / "notes"
    (notes / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "c.txt", "sub/d.txt"):
        (notes / name).write_text(f"Text of {name[-5]}.")
    assert index(notes, model=model).documents == 4
    Path(os.fsdecode(os.fsencode(notes) + b"/caf\xe9.txt")).write_text("Coffee.")
    (notes / "e.txt").write_text("New.")
    (notes / "b.txt").write_text("Other text.")

    def meanwhile(path: str, done: int, total: int) -> None:
        if path == "a.txt":
            (notes / "a.txt").unlink()
            (notes / "b.txt").unlink()
            (notes / "b.txt").symlink_to(notes / "c.txt")
            (notes / "e.txt").unlink()
            os.mkfifo(notes / "e.txt")

    found = index(notes, watch=meanwhile)
    assert (found.indexed, found.unchanged, found.removed) == (1, 2, 1)
    assert set(found.not_read) == {"b.txt", "e.txt"} and "no file" in found.not_read["e.txt"]
    asked = index(None, name="notes", ask="coffee", most=50)
    assert {hit.path for hit in asked.found} == {"caf\\xe9.txt", "c.txt", "sub/d.txt"}


def test_what_could_not_be_read_is_tried_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = str(encoders.folder(home / "model"))
    notes = home / "notes"
    notes.mkdir()
    (notes / "a.docx").write_bytes(word_document("Found at last"))
    hidden = home / "hidden"
    (hidden / "allmend").mkdir(parents=True)
    # The reader's process does not find its rooms: as where a package is missing, or memory was short.
    (hidden / "sitecustomize.py").write_text("import zipfile\nzipfile.ZipFile.namelist = None\n")
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")]))
        assert set(index(notes, model=model).not_read) == {"a.docx"}
        assert index(notes).unchanged == 1
    again = index(notes)
    assert (again.indexed, again.documents, again.not_read) == (1, 1, {})


def test_every_passage_is_read_to_its_end_by_the_model(home: Path) -> None:
    model = str(encoders.folder(home / "model"))  # 64 tokens, a byte each
    notes = home / "notes"
    notes.mkdir()
    (notes / "table.csv").write_text("\n".join(f"{n},{n * 7},{n * n}" for n in range(200)))
    done = index(notes, model=model)
    kept = Index(index_folder("notes"))
    texts = kept.texts("table.csv")
    assert done.passages == len(texts) and max(map(len, texts)) <= 62
    assert set("\n".join(texts).splitlines()) >= {"0,0,0", "199,1393,39601"}


def test_how_far_it_is_is_told_by_bytes_that_are_to_be_read(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from allmend.cli.index import _Told

    model = str(encoders.folder(home / "model"))
    notes = home / "notes"
    notes.mkdir()
    (notes / "a.txt").write_text("Some words. " * 3000)
    (notes / "b.txt").write_text("Other words. " * 300)
    told: list[tuple[int, int]] = []
    index(notes, model=model, watch=lambda path, done, total: told.append((done, total)))
    assert told == sorted(told) and {total for _, total in told} == {39900} and told[-1][0] == 39900
    assert len(told) > 5  # within a file too
    told.clear()
    (notes / "b.txt").write_text("Changed.")
    index(notes, watch=lambda path, done, total: told.append((done, total)))
    assert told[-1] == (8, 8)
    times = iter((0.0, 1.0, 6.0, 7.0, 20.0, 21.0))
    line = _Told(lambda: next(times))
    for done in (0, 0, 1, 1_000_000, 2_000_000):
        line("a.txt", done, 4_000_000)
    assert capfd.readouterr().err.splitlines() == [
        "  0 % of 4.0 MB  (a.txt)",
        "  25 % of 4.0 MB, 50.0 kB a second, about 60 s left  (a.txt)",
    ]


def test_a_rebuild_that_cannot_be_leaves_what_is_there(home: Path) -> None:
    model = str(encoders.folder(home / "model"))
    for name in ("one/notes", "two/notes"):
        (home / name).mkdir(parents=True)
        (home / name / "a.txt").write_text(f"Text of {name}.")
    index(home / "one/notes", model=model)
    for folder, options in (("one/notes", {"model": str(home / "nothing")}), ("two/notes", {"model": model})):
        with pytest.raises((NotFound, UsageError)):
            index(home / folder, rebuild=True, **options)
    with pytest.raises(UsageError, match="folder"):
        index(None, name="notes", rebuild=True)
    reading = Index(index_folder("notes"))
    assert ask(reading, "text", np.ones(32))[0].text == "Text of one/notes."
    (home / "one/notes/a.txt").write_text("Other words.")
    assert index(home / "one/notes", rebuild=True).indexed == 1
    assert [hit.text for hit in ask(reading, "text", np.ones(32))] == ["Other words."]
    (index_folder("notes") / "index.sqlite").write_bytes(b"no index")
    with pytest.raises(InputError, match="broken"):
        index(home / "one/notes")
    assert index(home / "one/notes", rebuild=True, model=model).documents == 1


def test_what_is_no_index_is_said(home: Path) -> None:
    index_folder("broken").mkdir(parents=True)
    (index_folder("broken") / "index.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 500)
    with pytest.raises(InputError, match="broken"):
        Index(index_folder("broken"))
    (listed,) = indexes().indexes
    assert listed.name == "broken" and "broken" in listed.not_read["index.sqlite"]
