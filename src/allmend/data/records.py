"""Records of each file format: JSON lines, a JSON list, CSV and TSV, Parquet, text files. One generator a format.

Each yields `Record`s in file order with O(1 row) memory (Parquet: one row group; a JSON list: the file). A record
with a `problem` stands for a row that cannot be read; whether that stops the run is decided in `reading`.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from allmend.data.lines import LONGEST_LINE, lines
from allmend.digests import regular_files
from allmend.errors import InputError, Unavailable

LARGEST_LIST = 512 * 2**20
"""Bytes of a `.json` list, which is read whole; JSON lines have no such limit."""

TEXT_SUFFIXES = frozenset({".txt", ".md", ".text", ".rst"})
_UNUSABLE = "not usable JSON: nested too deep, or a number with too many digits"
_ONE_A_LINE = "Write one JSON object a line (.jsonl)."
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


class Record(NamedTuple):
    """One record: its line (or row number) and fields, or what is wrong with it."""

    line: int
    values: Mapping[str, Any]
    problem: str | None = None
    file: str | None = None
    """The file, where a source has several."""


def json_lines(stream: BinaryIO) -> Iterator[Record]:
    """One JSON object a line; blank lines are passed over."""
    for number, text, problem in lines(stream):
        if problem or text.strip():
            yield _parsed(number, text) if problem is None else Record(number, {}, problem)


def _parsed(number: int, text: str) -> Record:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return Record(number, {}, f"not JSON: {error.msg.lower()} at place {error.pos + 1} of the line")
    except (RecursionError, ValueError):
        return Record(number, {}, _UNUSABLE)
    return _object(number, value, _HALF_PAIR.search(text) is not None)


def _object(number: int, value: Any, check_pairs: bool) -> Record:
    if not isinstance(value, dict):
        return Record(number, {}, "not a JSON object with fields")
    if check_pairs:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return Record(number, {}, "holds half of a surrogate pair (\\ud8xx), which is no character")
    return Record(number, value)


def json_list(stream: BinaryIO, where: str) -> Iterator[Record]:
    """A file that is one JSON list of objects; lines are item numbers, from 1."""
    raw = stream.read(LARGEST_LIST + 1)
    if len(raw) > LARGEST_LIST:
        hint = "Write it as JSON lines, one object a line (.jsonl); those are read as a stream."
        raise InputError(f"a JSON list of more than {LARGEST_LIST >> 20} MiB", where=where, hint=hint)
    try:
        text = raw.decode("utf-8-sig")
        value = json.loads(text)
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: byte 0x{raw[error.start]:02x} at byte {error.start}", where=where) from None
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg.lower()}", where=f"{where}:{error.lineno}") from None
    except (RecursionError, ValueError):
        raise InputError("not usable JSON: nested too deep, or a number with too many digits", where=where) from None
    if not isinstance(value, list):
        raise InputError("not a list of objects", where=where, hint=rows_inside(value, where) or _ONE_A_LINE)
    check_pairs = _HALF_PAIR.search(text) is not None
    for number, item in enumerate(value, 1):
        yield _object(number, item, check_pairs)


def rows_inside(value: Any, where: str) -> str | None:
    """A hint where an object is not a row but holds rows: in one of its fields, or as columns."""
    if not isinstance(value, Mapping):
        return None
    for name, part in value.items():
        if isinstance(part, list) and part and all(isinstance(row, Mapping) for row in part[:50]):
            if {"role", "content"} <= set(part[0]) or {"from", "value"} <= set(part[0]):
                return f"Name the conversation 'messages' instead of {str(name)!r}."
            return f"The rows seem to be in {str(name)!r}: jq -c '.{_path(str(name))}[]' {where} > rows.jsonl"
    sizes = {len(part) for part in value.values() if isinstance(part, list)}
    if len(value) > 1 and len(sizes) == 1 and all(isinstance(part, list) for part in value.values()):
        return "These are columns, not rows. " + _ONE_A_LINE
    return None


def _path(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else json.dumps(name)


def check_one_a_line(head: bytes, where: str) -> None:
    """Raise `InputError` where the first object of what should be JSON lines is spread over several of them."""
    first = next((line.strip() for line in head.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()), b"")
    if first == b"{":
        raise InputError(
            "an object is spread over several lines, and JSON lines have one object a line",
            where=where,
            hint=f"jq -c . {where} > rows.jsonl writes them so.",
        )


def table(stream: BinaryIO, where: str, tabs: bool, notes: list[str]) -> Iterator[Record]:
    """CSV or TSV with a header line (RFC 4180; delimiter , ; tab or |, as the header shows).

    A record's line is the one it begins on. Bytes that are not UTF-8 spoil their record only.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    sample = stream.read(1 << 16)
    stream.seek(-len(sample), 1)
    source = lines(stream)
    first = next(source, None)
    while first is not None and first.problem is None and not first.text.strip():
        first = next(source, None)
    if first is None:
        raise InputError("the file is empty", where=where)
    if first.problem:
        raise InputError(first.problem, where=f"{where}:1")
    delimiter = _delimiter(first.text, tabs)
    if delimiter != ("\t" if tabs else ","):
        notes.append(f"columns are divided by {'tabs' if delimiter == chr(9) else repr(delimiter)}")
    bare = delimiter == "\t" and _has_bare_quotes(sample)
    if bare:
        notes.append("quotes are read as ordinary characters, for more rows fit the header so")
    spoiled: dict[int, str] = {}

    def texts() -> Iterator[str]:
        yield first.text
        for number, text, problem in source:
            if problem:
                spoiled[number] = problem
            yield text or "\n"

    reader = csv.reader(
        texts(), delimiter=delimiter, quoting=csv.QUOTE_NONE if bare else csv.QUOTE_MINIMAL, strict=True
    )
    offset = first.number - 1
    header = _header(reader, where)
    yield from _table_rows(reader, header, offset, spoiled, where)


def _header(reader: Any, where: str) -> list[str]:
    try:
        header = [name.strip() for name in next(reader)]
    except (csv.Error, StopIteration) as error:
        raise InputError(f"the header line cannot be read: {error}", where=f"{where}:1") from None
    doubled = sorted({name for name in header if header.count(name) > 1 and name})
    if doubled:
        raise InputError(f"two columns are called {doubled[0]!r}", where=f"{where}:1")
    return header


def _table_rows(reader: Any, header: list[str], offset: int, spoiled: dict[int, str], where: str) -> Iterator[Record]:
    while True:
        begins = reader.line_num + 1 + offset
        try:
            fields = next(reader)
        except StopIteration:
            yield from (Record(line, {}, problem) for line, problem in spoiled.items())
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise InputError("a quoted field begins in this row and its quote is never closed",
                                 where=f"{where}:{begins}") from None  # fmt: skip
            yield Record(begins, {}, f"not a row of this table: {_csv_words(str(error))}")
            continue
        bad = [line for line in spoiled if line <= reader.line_num + offset]
        for line in bad:
            yield Record(line, {}, spoiled.pop(line))
        if not fields or bad:
            continue
        while len(fields) > len(header) and not fields[-1]:
            fields.pop()
        if len(fields) != len(header):
            yield Record(begins, {}, f"the row has {len(fields)} fields, the header has {len(header)}")
        else:
            yield Record(begins, dict(zip(header, fields, strict=True)))


def _csv_words(error: str) -> str:
    if "field larger" in error:
        return f"a field is larger than {LONGEST_LINE >> 20} MiB (a quote never closed?)"
    if "expected after" in error:
        return 'a quote stands inside a quoted field (write it twice: "")'
    return error


def _has_bare_quotes(sample: bytes) -> bool:
    """Whether more rows of a TSV fit its header when quotes are ordinary characters: many programs write it so."""
    texts = sample[: sample.rfind(b"\n") + 1].decode("utf-8", "replace").splitlines(keepends=True)
    columns = texts[0].count("\t") + 1 if texts else 0
    plain = sum(text.count("\t") + 1 == columns for text in texts)
    quoted = 0
    reader = csv.reader(texts, delimiter="\t", strict=True)
    while True:
        try:
            quoted += len(next(reader)) == columns
        except StopIteration:
            return plain > quoted
        except csv.Error:
            continue


def _delimiter(header: str, tabs: bool) -> str:
    bare = re.sub(r'"[^"]*"', "", header)
    if tabs and "\t" in bare:
        return "\t"
    counts = {mark: bare.count(mark) for mark in ",;\t|"}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else ("\t" if tabs else ",")


def parquet(path: Path, where: str, value_names: dict[str, dict[int, str]]) -> Iterator[Record]:
    """Rows of a Parquet file, one row group at a time; lines are row numbers, from 1.

    Names of numbered classes that the `datasets` library stored in the file's metadata go to `value_names`.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Unavailable("Parquet files need pyarrow", hint="pip install 'allmend[tune]'") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            value_names.update(_class_names(file.schema_arrow.metadata or {}))
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield Record(number, values)
    except (pyarrow.ArrowException, OSError) as error:
        words = str(error).splitlines()[0][:200]
        raise InputError(f"the Parquet file cannot be read: {words}", where=where) from None


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, dict[int, str]]:
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {
            name: dict(enumerate(map(str, feature["names"])))
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature["names"], list)
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def text_folder(folder: Path, notes: list[str]) -> Iterator[Record]:
    """Each text file below `folder`, in the order of their paths, as one row; links are not followed."""
    others = 0
    for path in regular_files(folder):
        if path.suffix.lower() not in TEXT_SUFFIXES:
            others += 1
            continue
        shown = path.relative_to(folder).as_posix()
        with path.open("rb") as stream:
            raw = stream.read(LONGEST_LINE + 1)
        if len(raw) > LONGEST_LINE:
            yield Record(1, {}, f"the file is longer than {LONGEST_LINE >> 20} MiB", shown)
            continue
        try:
            yield Record(1, {"text": raw.decode("utf-8-sig")}, None, shown)
        except UnicodeDecodeError as error:
            yield Record(1, {}, f"not UTF-8 text: byte 0x{raw[error.start]:02x} at byte {error.start}", shown)
    if others:
        notes.append(
            f"{others} files in the folder are not text ({', '.join(sorted(TEXT_SUFFIXES))}) and were not read"
        )


def paragraphs(stream: BinaryIO) -> Iterator[Record]:
    """A text file as one row a paragraph: blank lines divide. A record's line is its first."""
    begins, parts = 0, list[str]()
    for number, text, problem in lines(stream):
        if problem:
            yield Record(number, {}, problem)
        elif text.strip():
            begins = begins if parts else number
            parts.append(text.rstrip("\r\n"))
        elif parts:
            yield Record(begins, {"text": "\n".join(parts)})
            parts = []
    if parts:
        yield Record(begins, {"text": "\n".join(parts)})
