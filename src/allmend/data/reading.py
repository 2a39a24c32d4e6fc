"""Reading rows from whatever a person has: JSON lines, CSV, Parquet, a folder of texts, standard input."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from allmend.data import records
from allmend.data.columns import BadRow, Shape, find_shape
from allmend.data.lines import existing, refuse_other_formats
from allmend.data.records import Record
from allmend.data.rows import Row
from allmend.digests import file_digest, folder_digest
from allmend.errors import InputError, UsageError, nearest
from allmend.nouns.examples import SkippedRow

KEPT_REASONS = 5
"""How many skipped rows are kept with their reasons; all are counted."""

_FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
            ".parquet": "parquet", ".pq": "parquet", **dict.fromkeys(records.TEXT_SUFFIXES, "text")}  # fmt: skip


class Reading:
    """A data source, opened once and iterated once or more for its rows.

    Args:
        source: a file, a folder of text files, or `-` for standard input (kept in a temporary file meanwhile).
        prompt_column, completion_column: names of the columns, where they cannot be told.
        skip_bad: leave bad rows out and count them, instead of stopping at the first.
        allow_empty: let rows through that have nothing to learn from (`data check` counts them).

    After the rows: `shape` (kind and columns), `notes`, `skipped`, `skipped_rows`. Raises `NotFound`, `UsageError`
    and `InputError` naming file and line.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        prompt_column: str | None = None,
        completion_column: str | None = None,
        skip_bad: bool = False,
        allow_empty: bool = False,
    ) -> None:
        self.source = str(source)
        self.name = "stdin" if self.source == "-" else self.source
        self.skip_bad = skip_bad
        self.allow_empty = allow_empty
        self.shape: Shape | None = None
        self.skipped = 0
        self.skipped_rows: list[SkippedRow] = []
        self._wanted = (prompt_column, completion_column)
        self._notes: list[str] = []
        self._value_names: dict[str, dict[int, str]] = {}
        self._spool: BinaryIO | None = None
        self._piped_digest = ""
        if self.source == "-":
            self._spool, self._piped_digest = _spooled(sys.stdin.buffer)
        else:
            existing(Path(self.source))

    @property
    def notes(self) -> list[str]:
        """What was decided while reading."""
        return self._notes + (self.shape.notes if self.shape else [])

    def sha256(self) -> str:
        """Digest of the file's bytes; of a folder, of its sorted names and digests."""
        if self._spool is not None:
            return self._piped_digest
        path = Path(self.source)
        if not path.is_dir():
            return file_digest(path)
        return folder_digest(path, records.TEXT_SUFFIXES)

    def __iter__(self) -> Iterator[Row]:
        self.skipped, self.skipped_rows, self._notes, self.shape = 0, [], [], None
        found = False
        for record in self._records():
            found = True
            row = self._row(record)
            if row is not None:
                yield row
        if not found:
            raise InputError("there are no rows", where=self.name)

    def _row(self, record: Record) -> Row | None:
        place = f"{self.name}/{record.file}" if record.file else f"{self.name}:{record.line}"
        problem = record.problem
        if problem is None:
            if self.shape is None:
                self.shape = self._found_shape(record)
                self.shape.value_names = self._value_names.get(self.shape.completion)
            try:
                row = self.shape.row(record.values, place)
                if self.allow_empty or not row.is_empty:
                    return row
                problem = _what_is_empty(row)
            except BadRow as bad:
                problem = str(bad)
        if not self.skip_bad:
            raise InputError(problem, where=place, hint="Mend the row, or leave bad rows out with --skip-bad.")
        self.skipped += 1
        if len(self.skipped_rows) < KEPT_REASONS:
            self.skipped_rows.append(SkippedRow(place=place, reason=problem))
        return None

    def _found_shape(self, record: Record) -> Shape:
        try:
            shape = find_shape([str(key) for key in record.values], *self._wanted, self.name)
        except InputError as error:
            error.hint = records.rows_inside(record.values, self.name) or error.hint
            raise
        return shape.seeing(record.values)

    def _records(self) -> Iterator[Record]:
        path = Path(self.source)
        if self._spool is not None:
            self._spool.seek(0)
            yield from self._from_stream(self._spool, _sniff(_head(self._spool)))
        elif path.is_dir():
            yield from records.text_folder(path, self._notes)
        elif (kind := _format_of(path)) == "parquet":
            if not path.stat().st_size:
                raise InputError("the file is empty", where=self.name)
            yield from records.parquet(path, self.name, self._value_names)
        else:
            with path.open("rb") as stream:
                yield from self._from_stream(stream, kind)

    def _from_stream(self, stream: BinaryIO, kind: str) -> Iterator[Record]:
        head = _head(stream)
        refuse_other_formats(head, self.name)
        if kind == "json" and _sniff(head) == "jsonl" and _is_one_a_line(head):
            kind = "jsonl"
        elif kind == "jsonl" and _sniff(head) == "json":
            kind = "json"
        if kind == "jsonl":
            records.check_one_a_line(head, self.name)
            return records.json_lines(stream)
        if kind == "json":
            return records.json_list(stream, self.name)
        if kind == "text":
            self._notes.append("each paragraph of the text file is one row")
            return records.paragraphs(stream)
        return records.table(stream, self.name, kind == "tsv", self._notes)


def read_rows(
    source: str | Path,
    *,
    prompt_column: str | None = None,
    completion_column: str | None = None,
    skip_bad: bool = False,
) -> Iterator[Row]:
    """The rows of `source` as a stream; see `Reading`."""
    reading = Reading(source, prompt_column=prompt_column, completion_column=completion_column, skip_bad=skip_bad)
    return iter(reading)


def _format_of(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in _FORMATS:
        return _FORMATS[suffix]
    words = f"files ending in {suffix!r} are not read" if suffix else "the file's name does not say what it is"
    near = nearest(suffix, _FORMATS) if suffix else ""
    known = f"Known endings: {', '.join(sorted(_FORMATS))}; or a folder of texts, or - for standard input."
    raise UsageError(words, where=str(path), hint=near or known)


def _head(stream: BinaryIO) -> bytes:
    head = stream.read(4096)
    stream.seek(-len(head), 1)
    return head


def _sniff(head: bytes) -> str:
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return {b"{": "jsonl", b"[": "json"}.get(first, "csv")


def _is_one_a_line(head: bytes) -> bool:
    """Whether the first line is an object by itself, as far as its beginning tells."""
    first, end, _ = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if not end:
        return True
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _spooled(stream: BinaryIO) -> tuple[BinaryIO, str]:
    """Standard input in a file without a name, with its digest: it has to be read more than once."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the Reading)
    running = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        running.update(chunk)
        spool.write(chunk)
    spool.seek(0)
    return spool, running.hexdigest()


def _what_is_empty(row: Row) -> str:
    if row.text is not None:
        return "the text is empty"
    return "the prompt is empty" if row.completion.strip() else "the completion is empty"
