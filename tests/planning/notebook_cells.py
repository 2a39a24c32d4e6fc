"""Cells as a notebook, planned: what most tests of effects start from."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import allmend


def effects_of(*cells: str) -> set[tuple[str, str]]:
    """The (kind, target) pairs of a notebook of these code cells."""
    document = {
        "cells": [
            {"cell_type": "code", "source": text, "metadata": {}, "outputs": [], "execution_count": None}
            for text in cells
        ],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "notebook.ipynb"
        path.write_text(json.dumps(document))
        return {(effect.kind, effect.target) for effect in allmend.plan(path).effects}
