"""Rows in columns, nothing cut and nothing obeyed: names come from many people, some over the network."""

from __future__ import annotations

from collections.abc import Sequence

_GAP = 2


def print_columns(names: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print rows under their names, a line each; on a terminal that is too narrow for that, a block each.

    Args:
        right: names of columns of numbers.
    """
    from rich.cells import cell_len
    from rich.text import Text

    from allmend.cli.show import out

    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(cell_len(cell) for cell in column) for column in zip(names, *cells, strict=True)]
    console = out()
    if console.is_terminal and sum(widths) + _GAP * (len(widths) - 1) > console.width:
        for each in _blocks(names, cells):
            console.print(Text(each), soft_wrap=True)
        return

    def line(row: Sequence[str]) -> str:
        padded = []
        for name, cell, width in zip(names, row, widths, strict=True):
            space = " " * (width - cell_len(cell))
            padded.append(space + cell if name in right else cell + space)
        return (" " * _GAP).join(padded).rstrip()

    console.print(Text(line(names), style="bold"), soft_wrap=True)
    for row in cells:
        console.print(Text(line(row)), soft_wrap=True)


def plain(text: str) -> str:
    """Without what would move a terminal's cursor or end the line: such signs are written out."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def _blocks(names: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    longest = max(map(len, names))
    lines = []
    for row in cells:
        lines.append(row[0])
        lines += [f"  {name:{longest}}  {cell}".rstrip() for name, cell in zip(names[1:], row[1:], strict=True) if cell]
    return lines
