"""Reading notebooks: the document, its cells as Python and shell, its form parameters. Nothing is executed.

document     from bytes to a `Notebook`; `percent` for scripts with marked cells, `outputs` for very large ones
syntax       a cell as IPython sees it: Python with calls that stand for shell lines and magics
parameters   form parameters; `widgets` for those of ipywidgets, `literals` for values as forms write them
"""

from __future__ import annotations

from allmend.notebooks.document import read, read_bytes
from allmend.notebooks.syntax import CellCode, Special, split

__all__ = ["CellCode", "Special", "read", "read_bytes", "split"]
