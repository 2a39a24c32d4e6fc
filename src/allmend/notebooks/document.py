"""From bytes to a `Notebook`: nbformat 3 and 4, percent `.py`, plain scripts. No validation beyond need."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from allmend.errors import InputError, NotFound
from allmend.notebooks.outputs import LARGE, count_scripts, nesting, strip
from allmend.notebooks.percent import percent_cells
from allmend.nouns.notebook import Cell, Notebook

MAXIMUM_BYTES = 512 * 2**20
"""Larger documents are refused."""
_DEPTH = 400

_LANGUAGES = {
    "python": "python", "python2": "python", "python3": "python", "ipython": "python", "pyspark": "python",
    "ir": "r", "r": "r", "julia": "julia", "javascript": "javascript", "bash": "bash", "scala": "scala",
    "c++": "c++", "c#": "c#", "f#": "f#", "swift": "swift", "kotlin": "kotlin", "java": "java", "rust": "rust",
    "go": "go", "gophernotes": "go", "sql": "sql", "ruby": "ruby", "octave": "octave", "matlab": "matlab",
    "haskell": "haskell", "typescript": "typescript", "powershell": "powershell", "deno": "typescript",
    "perl": "perl", "sas": "sas", "sagemath": "python", "sage": "python",
}  # fmt: skip


def read(path: str | Path) -> Notebook:
    """Read a notebook or script file; raises `NotFound` or `InputError`."""
    file = Path(path)
    if not file.exists():
        raise NotFound("there is no such file", where=str(path))
    if file.is_dir():
        raise InputError("this is a folder, not a notebook", where=str(path))
    if file.stat().st_size > MAXIMUM_BYTES:
        raise InputError(f"larger than {MAXIMUM_BYTES >> 20} MiB", where=str(path))
    return read_bytes(file.read_bytes(), name=str(path))


def read_bytes(data: bytes, *, name: str = "notebook") -> Notebook:
    """Read a notebook from `data`; `name` decides between JSON and a script when the text does not."""
    digest = hashlib.sha256(data).hexdigest()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = data.decode("utf-16", "replace").encode("utf-8", "replace")
    data = data.removeprefix(b"\xef\xbb\xbf")
    looks_json = data[:4096].lstrip()[:1] == b"{"
    script = name.lower().endswith((".py", ".pyw", ".sh", ".bash"))
    if not script and (looks_json or name.lower().endswith((".ipynb", ".json"))):
        return _from_json(data, digest, name)
    if b"\0" in data[:4096]:
        raise InputError("this is neither a notebook nor a script: it holds binary data", where=name)
    text = data.decode("utf-8", "replace")
    if name.lower().endswith((".sh", ".bash")):
        cells = [Cell(type="code", source="%%bash\n" + text)]
    else:
        cells = percent_cells(text)
    return Notebook(cells=cells, sha256=digest, language_stated=False)


def _from_json(data: bytes, digest: str, name: str) -> Notebook:
    scripts: list[int] | None = None
    if len(data) > LARGE:
        data, scripts = strip(data)
    if not data.strip():
        raise InputError("the file is empty", where=name)
    if nesting(data, _DEPTH):
        raise InputError(f"the JSON is nested more than {_DEPTH} levels deep; that is no notebook", where=name)
    try:
        document = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError, MemoryError) as error:
        reason = f"{error.msg} at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "broken JSON"
        raise InputError(
            f"this is not JSON, so it is no notebook ({reason})",
            where=name,
            hint="If it was downloaded from a web page, fetch the raw file instead of the page that shows it.",
        ) from None
    if not isinstance(document, dict) or not ("cells" in document or "worksheets" in document):
        raise InputError("this is JSON, but not a notebook: it has neither `cells` nor `worksheets`", where=name)
    return _from_document(document, digest, scripts)


def _from_document(document: dict[str, Any], digest: str, scripts: list[int] | None) -> Notebook:
    problems: list[str] = []
    raw_cells = document.get("cells")
    major = document.get("nbformat")
    if not isinstance(raw_cells, list):
        raw_cells = []
        sheets = document.get("worksheets")
        for sheet in sheets if isinstance(sheets, list) else []:
            inner = sheet.get("cells") if isinstance(sheet, dict) else None
            raw_cells.extend(inner if isinstance(inner, list) else [])
        if not raw_cells:
            problems.append("the notebook has no list of cells")
    taken = iter(scripts) if scripts is not None else None
    cells = [_cell(raw, taken) for raw in raw_cells]
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    language, stated = _language(metadata, raw_cells)
    kernel = metadata.get("kernelspec")
    kernel_name = kernel.get("name") if isinstance(kernel, dict) else None
    return Notebook(
        cells=cells,
        language=language,
        language_stated=stated,
        kernel=kernel_name if isinstance(kernel_name, str) else None,
        metadata={k: v for k, v in metadata.items() if k in ("accelerator", "colab", "kaggle", "kernelspec")},
        nbformat=major if isinstance(major, int) and 0 < major < 100 else 4,
        sha256=digest,
        problems=problems,
    )


def _cell(raw: object, scripts: Any) -> Cell:
    if not isinstance(raw, dict):
        return Cell(type="raw", source="", problem="this entry of the list of cells is not a cell")
    kind = raw.get("cell_type")
    metadata = raw.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    source, problem = _source(raw)
    kind = {"heading": "markdown", "html": "markdown"}.get(str(kind), kind)
    if kind not in ("code", "markdown", "raw"):
        problem = problem or f"unknown kind of cell {str(kind)[:40]!r}"
        kind = "raw"
    jupyter = metadata.get("jupyter")
    hidden = metadata.get("cellView") == "form" or (isinstance(jupyter, dict) and jupyter.get("source_hidden") is True)
    tags = metadata.get("tags")
    language = raw.get("language") or metadata.get("language")
    outputs = raw.get("outputs")
    if outputs is None:
        found = 0
    else:
        found = next(scripts, 0) if scripts is not None else count_scripts(outputs)
    return Cell.model_construct(
        type=kind,  # type: ignore[arg-type]
        source=source,
        hidden=bool(hidden) and kind == "code",
        tags=[str(tag) for tag in tags[:50]] if isinstance(tags, list) else [],
        language=_LANGUAGES.get(language.lower(), language.lower()) if isinstance(language, str) else None,
        scripts=found,
        problem=problem,
    )


_SURROGATES = re.compile("[\ud800-\udfff\0]|[\U000f0000-\U0010ffff]")


def _source(raw: dict[str, Any]) -> tuple[str, str | None]:
    value = raw.get("source", raw.get("input", ""))
    if isinstance(value, list):
        value = "".join(part for part in value if isinstance(part, str))
    if value is None:
        value = ""
    if not isinstance(value, str):
        return "", "the source of this cell is not text"
    if _SURROGATES.search(value):
        value = _SURROGATES.sub("�", value)
    if "\r" in value:
        value = value.replace("\r\n", "\n").replace("\r", "\n")
    return value, None


def _language(metadata: dict[str, Any], cells: list[Any]) -> tuple[str, bool]:
    """The language the notebook says it is in, and whether it says so at all."""
    info = metadata.get("language_info")
    kernel = metadata.get("kernelspec")
    places: tuple[tuple[Any, str], ...] = ((info, "name"), (kernel, "language"), (kernel, "name"))
    for place, key in places:
        word = place.get(key) if isinstance(place, dict) else None
        if isinstance(word, str) and word:
            word = word.lower()
            known = _LANGUAGES.get(word) or next(
                (lang for stem, lang in _LANGUAGES.items() if len(stem) > 2 and word.startswith(stem)), None
            )
            if known:
                return str(known), True
            if place is info:
                return str(word), True
    for raw in cells:
        if isinstance(raw, dict) and raw.get("cell_type") == "code" and isinstance(raw.get("language"), str):
            word = raw["language"].lower()
            return str(_LANGUAGES.get(word, word)), True
    return "python", False
