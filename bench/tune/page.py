"""Tables of `docs/performance.md`, written between marks by the scripts that measure them."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def put(name: str, table: str) -> None:
    """Put a table between the marks of that name; nothing where the page has none."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    text = PAGE.read_text("utf-8")
    if begin in text and end in text:
        head, _, rest = text.partition(begin)
        PAGE.write_text(f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}", "utf-8")


def rows(names: list[str], values: list[list[str]]) -> str:
    """Markdown."""
    lines = [names, ["---"] * len(names), *values]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
