"""Two executed notebooks side by side: the same, close (numbers within a tolerance, images that look alike), or not.

What was printed is read as text with numbers in it; addresses of objects in memory are no difference. Images are made
small and grey and compared by how far apart their brightness lies, as a whole and in the worst spot.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allmend.nouns.likeness import Alike, Likeness, OutputLikeness

TOLERANCE = 1e-3
"""Numbers are close when they differ by at most this share of the larger."""
IMAGE_MEAN, IMAGE_WORST = 0.01, 0.12
"""Mean and worst difference in brightness (0 to 1) of two images, 64 by 64, that count as close."""
_SIDE = 64
_MOST_PIXELS = 50_000_000
_MOST_TEXT = 5_000_000
_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d+(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w])|\b(?:nan|inf)\b"
)
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,16}\b")
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp")
_ORDER: tuple[Alike, ...] = ("same", "close", "different")


def compare(
    first: dict[str, Any], second: dict[str, Any], names: tuple[str, str], *, tolerance: float = TOLERANCE,
    folders: tuple[Path, Path] | None = None,
) -> Likeness:  # fmt: skip
    """Compare the outputs of two executed notebooks (nbformat 4), and the files of two output folders."""
    found: list[OutputLikeness] = []
    skipped: list[str] = []
    pairs = list(zip(first["cells"], second["cells"], strict=False))
    if len(first["cells"]) != len(second["cells"]):
        why = f"{len(first['cells'])} cells, then {len(second['cells'])}"
        found.append(OutputLikeness(where="notebook", kind="cells", alike="different", why=why))
    for place, (one, other) in enumerate(pairs):
        if one.get("cell_type") == "code" or other.get("cell_type") == "code":
            found += _cell(place, _gathered(one), _gathered(other), tolerance, skipped)
    if folders is not None:
        found += _files(*folders, tolerance, skipped)
    worst = max((one.alike for one in found), key=_ORDER.index, default="same")
    return Likeness(first=names[0], second=names[1], alike=worst, outputs=found, not_compared=skipped)


def _gathered(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """A cell's outputs; pieces of one stream that follow each other are one, as front ends show them."""
    found: list[dict[str, Any]] = []
    for output in cell.get("outputs") or ():
        if output.get("output_type") == "stream":
            text = _text(output.get("text"))
            if found and found[-1].get("name") == output.get("name") and found[-1]["output_type"] == "stream":
                found[-1] = {**found[-1], "text": found[-1]["text"] + text}
                continue
            output = {**output, "text": text}
        found.append(output)
    return found


def _text(value: object) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _cell(place: int, first: list[dict[str, Any]], second: list[dict[str, Any]], tolerance: float,
          skipped: list[str]) -> list[OutputLikeness]:  # fmt: skip
    found = []
    for number in range(max(len(first), len(second))):
        where = f"cell {place}, output {number + 1}"
        if number >= len(first) or number >= len(second):
            which = "first" if number >= len(second) else "second"
            found.append(
                OutputLikeness(where=where, kind="output", alike="different", why=f"only the {which} run has it")
            )
            continue
        found.append(_output(where, first[number], second[number], tolerance, skipped))
    return found


def _output(
    where: str, one: dict[str, Any], other: dict[str, Any], tolerance: float, skipped: list[str]
) -> OutputLikeness:
    kinds = (one.get("output_type"), other.get("output_type"))
    if kinds[0] != kinds[1]:
        return OutputLikeness(where=where, kind="output", alike="different", why=f"{kinds[0]}, then {kinds[1]}")
    if kinds[0] == "stream":
        alike, why = texts(_text(one.get("text")), _text(other.get("text")), tolerance)
        return OutputLikeness(where=where, kind="text", alike=alike, why=why)
    if kinds[0] == "error":
        before, after = (f"{output.get('ename')}: {output.get('evalue')}" for output in (one, other))
        alike, why = texts(before, after, tolerance)
        return OutputLikeness(where=where, kind="error", alike=alike, why=why)
    return _shown(where, one.get("data") or {}, other.get("data") or {}, tolerance, skipped)


def _shown(
    where: str, one: dict[str, Any], other: dict[str, Any], tolerance: float, skipped: list[str]
) -> OutputLikeness:
    """A rich output by the form that tells most: its image, else its text."""
    for mime in _IMAGES:
        if mime in one and mime in other:
            try:
                data = [base64.b64decode(_text(shown[mime])) for shown in (one, other)]
            except ValueError:
                skipped.append(f"{where}: {mime} that is not base64")
                break
            alike, why = images(data[0], data[1])
            return OutputLikeness(where=where, kind="image", alike=alike, why=why)
    both = [
        mime
        for mime in ("text/plain", "text/html", "text/markdown", "application/json")
        if mime in one and mime in other
    ]
    if not both:
        same = one == other
        if not same:
            skipped.append(f"{where}: {', '.join(sorted({*one, *other})) or 'nothing'} cannot be looked into")
        return OutputLikeness(where=where, kind="data", alike="same" if same else "different",
                              why="" if same else "another form, or other bytes")  # fmt: skip
    results = [(mime, *texts(_text(one[mime]), _text(other[mime]), tolerance)) for mime in both]
    mime, alike, why = max(results, key=lambda result: _ORDER.index(result[1]))
    return OutputLikeness(where=where, kind=mime, alike=alike, why=why)


def texts(first: str, second: str, tolerance: float = TOLERANCE) -> tuple[Alike, str]:
    """Two texts, and in words what differs."""
    if first == second:
        return "same", ""
    if max(len(first), len(second)) > _MOST_TEXT:
        return "different", "long texts that differ"
    first, second = _ADDRESS.sub("0x…", first), _ADDRESS.sub("0x…", second)
    if first == second:
        return "close", "only addresses in memory differ"
    if _NUMBER.sub("#", first) != _NUMBER.sub("#", second):
        return "different", _first_line(first, second)
    worst, where = 0.0, ("", "")
    for before, after in zip(_NUMBER.findall(first), _NUMBER.findall(second), strict=True):
        apart = _apart(before, after)
        if apart > worst:
            worst, where = apart, (before, after)
    if worst <= tolerance:
        return "close", f"numbers differ by at most {worst:.2g} of their size"
    return "different", f"{where[0]} became {where[1]}"


def _apart(before: str, after: str) -> float:
    one, other = float(before.replace(",", "")), float(after.replace(",", ""))
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    if not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    return abs(one - other) / max(abs(one), abs(other))


def _first_line(first: str, second: str) -> str:
    for before, after in zip(first.split("\n"), second.split("\n"), strict=False):
        if before != after:
            return f"{before.strip()[:80]!r} became {after.strip()[:80]!r}"
    return "one goes on where the other ends"


def images(first: bytes, second: bytes) -> tuple[Alike, str]:
    """Two images in any common format."""
    if first == second:
        return "same", ""
    small = [_small(data) for data in (first, second)]
    if small[0] is None or small[1] is None:
        return "different", "other bytes, and not an image that can be read"
    (size, one), (other_size, other) = small[0], small[1]
    if size != other_size:
        return "different", f"{size[0]} by {size[1]} pixels became {other_size[0]} by {other_size[1]}"
    apart = [abs(a - b) / 255 for a, b in zip(one, other, strict=True)]
    mean, worst = sum(apart) / len(apart), max(apart)
    words = f"brightness differs by {mean:.2%} on the whole, {worst:.0%} in the worst spot"
    close = mean <= IMAGE_MEAN and worst <= IMAGE_WORST
    return ("close" if close else "different"), words


def _small(data: bytes) -> tuple[tuple[int, int], Sequence[int]] | None:
    """An image's size, and its colours as 64 by 64 pixels over white."""
    import io
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "GIF", "WEBP", "BMP")) as image:
                size = image.size
                if size[0] * size[1] > _MOST_PIXELS:
                    return None
                flat = Image.new("RGBA", size, "white")
                flat.alpha_composite(image.convert("RGBA"))
                small = flat.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
                return size, list(small.tobytes())
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError):
        return None


_READ_AS_TEXT = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".html", ".log", ".yaml", ".yml", ".toml", ".xml")
_READ_AS_IMAGE = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")


def _files(first: Path, second: Path, tolerance: float, skipped: list[str]) -> list[OutputLikeness]:
    from allmend.digests import file_digest, regular_files

    listed = [{str(path.relative_to(folder)): path for path in regular_files(folder)} for folder in (first, second)]
    found = []
    for name in sorted({*listed[0], *listed[1]})[:2000]:
        one, other = listed[0].get(name), listed[1].get(name)
        if one is None or other is None:
            which = "first" if other is None else "second"
            found.append(
                OutputLikeness(where=name, kind="file", alike="different", why=f"only the {which} run wrote it")
            )
            continue
        suffix = one.suffix.lower()
        alike: Alike
        if file_digest(one) == file_digest(other):
            alike, why = "same", ""
        elif suffix in _READ_AS_IMAGE and max(one.stat().st_size, other.stat().st_size) < 2**27:
            alike, why = images(one.read_bytes(), other.read_bytes())
        elif suffix in _READ_AS_TEXT and max(one.stat().st_size, other.stat().st_size) < _MOST_TEXT:
            alike, why = texts(one.read_text("utf-8", "replace"), other.read_text("utf-8", "replace"), tolerance)
        else:
            alike, why = "different", "other bytes"
            skipped.append(f"{name}: this kind of file is compared by its bytes alone")
        found.append(OutputLikeness(where=name, kind="file", alike=alike, why=why))
    return found
