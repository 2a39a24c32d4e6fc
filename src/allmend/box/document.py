"""The notebook to run, as nbformat 4 JSON, with parameters put in. What it says about itself is not believed."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allmend.errors import InputError, NotFound, UsageError, nearest
from allmend.nouns.plan import FormParameter

MOST_BYTES = 256 * 2**20
_CELL_TYPES = ("code", "markdown", "raw")


@dataclass(frozen=True)
class Document:
    """A notebook as read."""

    path: Path
    sha256: str
    content: dict[str, Any]
    """nbformat 4, minor 5; outputs emptied, trust marks removed."""

    @property
    def colab(self) -> bool:
        """Whether it was made for Colab."""
        text = json.dumps([cell["source"] for cell in self.content["cells"]])
        return "colab" in self.content["metadata"] or "google.colab" in text or "#@param" in text or "/content" in text


def read(path: Path) -> Document:
    """Read a notebook (nbformat 3 or 4) or a percent script; raises `NotFound` or `InputError`."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"larger than {MOST_BYTES >> 20} MiB", where=str(path))
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFound("there is no such notebook", where=str(path)) from None
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror})", where=str(path)) from None
    digest = hashlib.sha256(data).hexdigest()
    if path.suffix == ".py":
        return Document(path, digest, _from_script(data.decode("utf-8", "replace")))
    try:
        raw = json.loads(data.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"this is not JSON, so it is no notebook ({error})"[:200], where=str(path)) from None
    if not isinstance(raw, dict) or not (isinstance(raw.get("cells"), list) or isinstance(raw.get("worksheets"), list)):
        raise InputError("this is no notebook: it has no list of cells", where=str(path))
    return Document(path, digest, _normal(raw))


def _normal(raw: dict[str, Any]) -> dict[str, Any]:
    cells = raw.get("cells")
    if not isinstance(cells, list):
        sheets = [sheet for sheet in raw["worksheets"] if isinstance(sheet, dict)]
        cells = [cell for sheet in sheets for cell in sheet.get("cells") or []]
    found = raw.get("metadata")
    metadata: dict[str, Any] = found if isinstance(found, dict) else {}
    metadata = {k: v for k, v in metadata.items() if k not in ("widgets", "signature", "trusted")}
    return {"cells": [_cell(cell) for cell in cells], "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}


def _cell(raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict):
        return {"cell_type": "raw", "source": "", "metadata": {}}
    kind = raw.get("cell_type") if raw.get("cell_type") in _CELL_TYPES else "markdown"
    source = raw.get("source", raw.get("input", ""))
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    found = raw.get("metadata")
    metadata: dict[str, Any] = found if isinstance(found, dict) else {}
    cell = {
        "cell_type": kind,
        "source": source if isinstance(source, str) else "",
        "metadata": {k: v for k, v in metadata.items() if k != "trusted"},
    }
    if kind == "code":
        cell |= {"outputs": [], "execution_count": None}
    elif isinstance(raw.get("attachments"), dict):
        cell["attachments"] = raw["attachments"]
    return cell


def _from_script(text: str) -> dict[str, Any]:
    parts = re.split(r"^# ?%%(.*)$", text, flags=re.MULTILINE)
    cells = [("", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    made = []
    for mark, body in cells:
        if not body.strip():
            continue
        if "[markdown]" in mark:
            plain = re.sub(r"^# ?", "", body.strip("\n"), flags=re.MULTILINE)
            made.append({"cell_type": "markdown", "source": plain, "metadata": {}})
        else:
            made.append(_cell({"cell_type": "code", "source": body.strip("\n")}))
    return {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}


def value_of(text: str) -> Any:
    """A parameter as typed on the command line: JSON where it reads as JSON or a Python constant, else text."""
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def with_parameters(content: dict[str, Any], values: dict[str, Any], forms: list[FormParameter]) -> set[str]:
    """Put `values` into the cells: on the form line of that name, else after the cell tagged `parameters`.

    Changes `content`; returns the names that were put in. Raises `UsageError` for a name the notebook does not
    have.
    """
    cells = content["cells"]
    by_name: dict[str, list[FormParameter]] = {}
    for form in forms:
        by_name.setdefault(form.name, []).append(form)
    tagged = next((cell for cell in cells if "parameters" in _tags(cell)), None)
    rest: dict[str, Any] = {}
    for name, value in values.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise UsageError(f"{name!r} is not a parameter's name", where="-p")
        put = [_replace(cells, form, value) for form in by_name.get(name, ())]
        if not any(put):
            if tagged is None or (by_name and name not in by_name and not _assigns(tagged, name)):
                known = set(by_name) | _assigned(tagged)
                raise UsageError(
                    f"the notebook has no parameter {name!r}", where="-p", hint=nearest(name, known) or None
                )
            rest[name] = value
    if rest and tagged is not None:
        source = "# Parameters\n" + "".join(f"{name} = {_literal(value)}\n" for name, value in rest.items())
        place = cells.index(tagged)
        # In the same cell, so that the numbers of the cells after it stay those of the plan.
        cells[place]["source"] = cells[place]["source"].rstrip("\n") + "\n\n" + source
    return set(values)


def _tags(cell: dict[str, Any]) -> list[Any]:
    tags = cell["metadata"].get("tags")
    return tags if isinstance(tags, list) and cell["cell_type"] == "code" else []


def _assigned(cell: dict[str, Any] | None) -> set[str]:
    return set(re.findall(r"^([A-Za-z_]\w*)\s*(?::[^=\n]+)?=(?!=)", cell["source"], re.MULTILINE)) if cell else set()


def _assigns(cell: dict[str, Any], name: str) -> bool:
    return name in _assigned(cell)


def _literal(value: Any) -> str:
    if isinstance(value, float) and value != value:
        return "float('nan')"
    return repr(value)


def _replace(cells: list[dict[str, Any]], form: FormParameter, value: Any) -> bool:
    """Put a value on a form's line; False when the line does not assign the name."""
    if not 0 <= form.cell < len(cells) or cells[form.cell]["cell_type"] != "code":
        return False
    if form.choices and value not in form.choices and not form.allow_input:
        shown = ", ".join(map(repr, form.choices[:12]))
        raise UsageError(f"{form.name} must be one of {shown} (given: {value!r})", where="-p")
    lines = cells[form.cell]["source"].split("\n")
    if not 0 < form.line <= len(lines):
        return False
    line = lines[form.line - 1]
    head = re.match(rf"\s*{re.escape(form.name)}\s*(?::[^=]+)?=(?!=)\s*", line)
    if head is None:
        return False
    comment = re.search(r"#\s*@param.*$", line)
    tail = "  " + comment[0] if comment else ""
    lines[form.line - 1] = f"{head[0].rstrip()} {_literal(value)}{tail}"
    cells[form.cell]["source"] = "\n".join(lines)
    return True
