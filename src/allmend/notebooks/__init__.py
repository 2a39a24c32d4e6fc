"""Reading notebooks: the document, its cells as Python and shell, its form parameters. Nothing is executed."""

from __future__ import annotations

from allmend.notebooks.document import read, read_bytes
from allmend.notebooks.syntax import CellCode, Special, split

__all__ = ["CellCode", "Special", "read", "read_bytes", "split"]
