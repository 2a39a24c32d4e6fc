"""An automatic choice: a value with its reason. Printed once, stored in the Run, applied again by a replay."""

from __future__ import annotations

from typing import Any

from allmend.nouns.noun import Part


class Choice(Part):
    """`name` was set to `value` because of `reason`."""

    name: str
    value: Any
    reason: str
