"""One labelled notebook: its cells as text, its effects as lines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

_RANDOM = "qVtZ7Lw2RkPb9XnGm4HsJd6FyCu8TeAoKi3W"
"""Stands for a token; joined at run time, so that no scanner takes this file for a leak."""


@dataclass(frozen=True)
class Case:
    """One labelled notebook."""

    name: str
    cells: str
    labels: str
    metadata: dict[str, Any] = field(default_factory=dict)

    def notebook(self) -> bytes:
        """The notebook as an `.ipynb`."""
        cells = []
        for text in self.cells.strip("\n").split("\n----\n"):
            hidden = text.startswith("#form\n")
            source = text.removeprefix("#form\n")
            kind = "markdown" if source.startswith("#md\n") else "code"
            cell: dict[str, Any] = {"cell_type": kind, "source": source.removeprefix("#md\n"), "metadata": {}}
            if kind == "code":
                cell["outputs"] = []
            if hidden:
                cell["metadata"]["cellView"] = "form"
            cells.append(cell)
        document = {"nbformat": 4, "nbformat_minor": 0, "metadata": self.metadata, "cells": cells}
        text = json.dumps(document)
        return text.replace("@HUB@", "hf_" + _RANDOM).replace("@CODE@", "ghp_" + _RANDOM).encode()

    def expected(self) -> set[tuple[str, str, int]]:
        """(kind, target, cell) as labelled."""
        rows = set()
        for line in self.labels.strip().splitlines():
            cell, kind, target = line.strip().split(" ", 2)
            rows.add((kind, target.removeprefix("?"), int(cell)))
        return rows


COLAB_GPU = {"accelerator": "GPU", "colab": {"gpuType": "T4"}}
